//! `gatevisor doctor` in a container: what is right, what is wrong, and that the printed command
//! fixes it.

use crate::engine::{Container, HERMES, ROOT, Volume, container, skipped};

/// Returns what doctor prints for this user, and how it ends.
fn doctor(container: &Container, user: &str) -> (i32, String) {
    let answer = container.exec_as(user, &["gatevisor", "doctor"]);
    assert_eq!(answer.err, "", "{answer:#?}");
    (answer.code, answer.out)
}

/// Returns the command that fixes the finding that has these words.
fn remedy(said: &str, words: &str) -> String {
    let block = said.split("\n\n").find(|block| block.contains(words));
    let block = block.unwrap_or_else(|| panic!("nothing says {words:?}: {said}"));
    let fix = block.lines().find_map(|line| line.trim_start().strip_prefix("fix:  "));
    fix.unwrap_or_else(|| panic!("no remedy: {block}")).into()
}

#[test]
fn a_new_container_is_well_for_root_and_for_the_agent_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.hermes("profile create coder").ok();
    for user in [HERMES, ROOT] {
        let (code, said) = doctor(&container, user);
        // A test does not control how full the machine's own disk is.
        assert_eq!(code, 0, "{said}");
        assert!(
            !said.contains("error: ") && said.contains("the supervisor (gatevisor, process 1)"),
            "{said}"
        );
        let is_other = |block: &&str| block.starts_with("warning: ") && !block.contains("disk of");
        assert_eq!(said.split("\n\n").find(is_other), None);
    }
    let status = container.exec(&["gatevisor", "status"]);
    assert!(
        status.ok().contains("coder") && status.err.is_empty(),
        "it names our own supervisor: {status:#?}"
    );
}

/// As in a pod: no root, and a volume of root that the orchestrator gave to a group.
#[test]
fn a_volume_that_is_shared_through_a_group_is_well() {
    if skipped() {
        return;
    }
    let volume = Volume::new();
    let fs_group = "chown 0:2000 /opt/data && chmod 2775 /opt/data && mkdir /opt/data/profiles && chmod 2775 /opt/data/profiles";
    let prepare = volume.home_of(container()).with("--user 0:0 --entrypoint bash");
    prepare.run(&["-c", fs_group]).ok();
    let container = volume.home_of(container()).with("--user 10000:10000 --group-add 2000").started();
    container.hermes("profile create coder").ok();
    let answer = container.exec(&["bash", "-c", "id -G; gatevisor doctor"]);
    assert!(answer.out.contains("2000"), "{answer:#?}");
    assert!(answer.code == 0 && !answer.out.contains("belongs to uid"), "{answer:#?}");
}

#[test]
fn what_root_broke_is_found_and_fixed_by_the_printed_commands_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.hermes("profile create coder").ok();
    container.hermes("profile create writer").ok();
    // Nothing makes a slot for the new profile.
    container.root_sh(
        "/command/s6-svc -wD -d /run/service/profile-watcher; \
         cd /opt/data/profiles; for p in coder writer; do echo TELEGRAM_BOT_TOKEN=1234:qqzzxxww >> $p/.env; done; \
         chmod 644 coder/.env; chown -R 0:0 writer; mkdir unregistered; echo > unregistered/SOUL.md; chown -R 10000:10000 unregistered",
    );
    let broken = [
        ("is open to others", ROOT),
        ("`/opt/data/profiles/writer` belongs to uid 0", ROOT),
        ("profile unregistered has no slot", HERMES),
        ("have the same TELEGRAM_BOT_TOKEN", HERMES),
    ];
    for (words, user) in broken {
        let (_, said) = doctor(&container, HERMES);
        assert!(!said.contains("qqzzxxww"), "{said}");
        let command = remedy(&said, words);
        container.exec_as(user, &["bash", "-c", &command]).ok();
        let (_, said) = doctor(&container, HERMES);
        assert!(!said.contains(words), "`{command}` did not fix it: {said}");
    }
    assert_eq!(doctor(&container, ROOT).0, 0);
}

#[test]
fn another_process_1_is_found() {
    if skipped() {
        return;
    }
    let container = container().with("--init").started();
    let (_, said) = doctor(&container, HERMES);
    assert!(
        said.contains("process 1 of this container is `docker-init`, not the supervisor (process "),
        "{said}"
    );
}

#[test]
fn a_container_without_our_entry_point_has_no_supervisor() {
    if skipped() {
        return;
    }
    let answer = container().with("--entrypoint bash").run(&["-c", "gatevisor doctor; exit $?"]);
    let said = answer.fails(1);
    assert!(said.contains("error: there is no scandir ") && said.contains("process 1 is `bash`"), "{said}");
}
