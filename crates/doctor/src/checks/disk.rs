//! *Lives here:* the check whether there is room.
//!
//! *Does not live here:* asking the kernel.

use crate::commands::quote;
use crate::facts::{DISK_PART, Disk, Facts, NO_BYTES, NO_FILES};
use crate::finding::{Check, Finding, Severity, shown};

/// Absolute numbers of bytes and inodes that are few.
const FEW_BYTES: u64 = 1 << 30;
const FEW_FILES: u64 = 10_000;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for disk in &facts.disks {
        found.extend(bytes(disk));
        found.extend(files(disk));
    }
}

/// Returns how bad it is that this much of the whole is left.
fn severity(all: u64, left: u64, few: u64, none: u64) -> Option<Severity> {
    if left > all / DISK_PART {
        None
    } else if left < none {
        Some(Severity::Error)
    } else {
        (left < few).then_some(Severity::Warning)
    }
}

fn bytes(disk: &Disk) -> Option<Finding> {
    let path = shown(&disk.path);
    let (severity, what) = match severity(disk.bytes, disk.bytes_left, FEW_BYTES, NO_BYTES) {
        _ if disk.is_full => (Severity::Error, format!("the disk of `{path}` is full")),
        Some(Severity::Error) => (Severity::Error, format!("the disk of `{path}` is full")),
        Some(other) => (other, format!("the disk of `{path}` is nearly full")),
        None => return None,
    };
    let why = format!(
        "{} of {} kB are left; a desired state that does not fit is refused, and lines are kept back",
        disk.bytes_left / 1024,
        disk.bytes / 1024
    );
    let fix = format!("du -xak -- {} | sort -n | tail -n 20", quote(&disk.path));
    Some(Finding::new(Check::Disk, severity, &what, &why).at(&disk.path).fix(fix))
}

fn files(disk: &Disk) -> Option<Finding> {
    if disk.files == 0 {
        return None;
    }
    let severity = severity(disk.files, disk.files_left, FEW_FILES, NO_FILES)?;
    let almost = if severity == Severity::Error { "no" } else { "hardly any" };
    let what = format!("the disk of `{}` has {almost} inodes left", shown(&disk.path));
    let why = format!("{} of {} are left, and each new file needs one", disk.files_left, disk.files);
    let fix = format!("du -x --inodes -- {} | sort -n | tail -n 20", quote(&disk.path));
    Some(Finding::new(Check::Disk, severity, &what, &why).at(&disk.path).fix(fix))
}
