//! Making and deleting profiles together with their gateways.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{World, agent, http_agent, name, request};
use gatevisor_gateways::ServiceManager;
use gatevisor_gateways::lifecycle::{NewGateway, create_profile, remove_profile};
use gatevisor_gateways::manager::{Registered, WaitFor};
use gatevisor_gateways::profile::OwnVariables;
use gatevisor_wire::exit::ExitError as _;

fn with_seed() -> gatevisor_gateways::AgentDefinition {
    let mut agent = agent(&["sleep", "1000"], "");
    agent.profile.directories = vec!["logs".to_owned()];
    agent.profile.files = http_agent().profile.files;
    agent
}

fn create(world: &World, text: &str, start: bool) -> NewGateway {
    let manager = &world.manager;
    let made = create_profile(
        manager,
        manager.home(),
        manager.agent(),
        &name(text),
        &OwnVariables::default(),
        start,
        &request(WaitFor::Up),
    )
    .unwrap();
    assert_eq!(made.warnings, Vec::<String>::new());
    made.gateway.unwrap()
}

#[test]
fn a_new_profile_has_its_gateway_registered_down_and_with_start_up() {
    let world = World::supervised(with_seed());
    assert_eq!(create(&world, "coder", false), NewGateway::Registered(Registered::Down));
    assert!(matches!(create(&world, "writer", true), NewGateway::Registered(Registered::Up(Some(_)))));
    assert_eq!(world.entries(), ["gateway-coder", "gateway-writer"]);
    assert_eq!(world.state(&name("writer"))["desired_state"], "running");
}

#[test]
fn without_a_supervisor_the_profile_is_made_and_a_requested_start_is_recorded() {
    let world = World::new(with_seed());
    assert_eq!(create(&world, "coder", false), NewGateway::NextTime);
    assert_eq!(create(&world, "writer", true), NewGateway::NextTimeRunning);
    assert_eq!(world.state(&name("writer"))["desired_state"], "running");
    assert!(world.entries().is_empty());
}

#[test]
fn a_deleted_profile_is_gone_with_its_slot_and_its_process() {
    let world = World::supervised(with_seed());
    create(&world, "coder", true);
    let coder = name("coder");
    let logs = world.manager.home().root().join("logs/gateways/coder");
    std::fs::create_dir_all(&logs).unwrap();
    let pid = world.manager.observe(&coder).unwrap().unwrap().status.unwrap().pid.unwrap();
    assert_eq!(remove_profile(&world.manager, world.manager.home(), &coder).unwrap(), Vec::<String>::new());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(world.entries().is_empty());
    assert!(common::entries(&world.manager.home().profiles_dir()).is_empty());
    assert!(logs.exists(), "logs must survive");
    let error = remove_profile(&world.manager, world.manager.home(), &coder).unwrap_err();
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn the_slot_of_a_profile_that_vanished_can_be_removed_under_its_name() {
    let world = World::supervised(with_seed());
    create(&world, "coder", true);
    std::fs::remove_dir_all(world.manager.home().profile_dir(&name("coder"))).unwrap();
    remove_profile(&world.manager, world.manager.home(), &name("coder")).unwrap();
    assert!(world.entries().is_empty());
}

#[test]
fn the_root_profile_cannot_be_removed() {
    let world = World::new(with_seed());
    let error = remove_profile(&world.manager, world.manager.home(), &name("default")).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string().as_str()),
        (100, "profile `default` is the home itself and cannot be deleted")
    );
}
