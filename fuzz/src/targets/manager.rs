//! What the manager reads: recorded requests, the agent definition, names.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use gatevisor_gateways::desired::read;
use gatevisor_gateways::slots::render;
use gatevisor_gateways::{AgentDefinition, ProfileName};
use gatevisor_slot::file::MAX_BYTES;
use gatevisor_slot::{group, parse_log, parse_service};
use gatevisor_wire::files;
use tempfile::TempDir;

thread_local! {
    static HOME: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub fn gateway_state(bytes: &[u8]) {
    HOME.with_borrow_mut(|home| {
        let home =
            home.get_or_insert_with(|| TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap());
        fs::write(home.path().join("gateway_state.json"), bytes).unwrap();
        match read(home.path(), "gateway_state.json") {
            Ok(recorded) => {
                let recorded = recorded.expect("the file is there");
                assert!(!recorded.prior.starts() || recorded.prior.word().is_some());
            }
            Err(error) => assert!(!error.reason("gateway_state.json").contains('\n')),
        }
    });
}

pub fn agent_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(agent) = AgentDefinition::parse(text, "agent.toml") else { return };
    let _ = (agent.prefix(), agent.home_variable(), agent.exit_meaning(0));
    let profile = ProfileName::new(b"coder").expect("a plain name");
    let Ok(slot) = render(&agent, &profile, Path::new("/bin/gatevisor"), true) else { return };
    for file in slot.0.iter().filter(|file| file.bytes.len() <= MAX_BYTES) {
        match file.path {
            "run" => drop(parse_service(&file.bytes).expect("what is written is read back")),
            "log/run" => drop(parse_log(&file.bytes).expect("what is written is read back")),
            path if path.starts_with("cgroup/") && path != files::CGROUP_STRICT => {
                assert!(group::parse(&file.bytes).is_some());
            }
            _ => {}
        }
    }
}

pub fn profile_name(bytes: &[u8]) {
    if let Ok(name) = ProfileName::new(bytes) {
        assert_eq!(name.as_str().as_bytes(), bytes);
        let entry = name.service_entry();
        assert_eq!(ProfileName::of_service(entry.as_bytes()).as_ref(), Some(&name));
    }
    let _ = ProfileName::of_service(bytes);
}
