//! *Lives here:* the cause that somebody wants of a gateway something else than a file declares.
//!
//! *Does not live here:* carrying that file out (`gatevisor_gateways::declared`).

use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::{Subject, said_by};
use crate::finding::shown;

pub(super) fn of(subject: &Subject) -> Vec<Cause> {
    let declared = subject.report().and_then(|report| report.declared.as_ref());
    let Some(declared) = declared.filter(|declared| declared.drifts) else { return Vec::new() };
    let here = subject.desired().unwrap_or("nothing");
    let (desired, fate) = (declared.desired, declared.fate());
    let what = format!("{here} is desired of it here, and {desired} is declared; the difference is {fate}");
    let by = declared.set_by.as_ref().map_or_else(String::new, |by| format!(", set by {by}"));
    let local = subject.recorded.as_ref().map_or_else(String::clone, |recorded| said_by(&recorded.origin));
    let evidence = format!("`{}` declares {desired}{by}; here: {local}", shown(&declared.file));
    vec![Cause::new(CauseKind::Drift, what, evidence)]
}
