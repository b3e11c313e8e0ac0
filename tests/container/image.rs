//! The content of the images, before any of our programs runs.

use crate::engine::{container, docker, image, minimal_image, skipped};

#[test]
fn the_image_has_what_the_unmodified_command_looks_for() {
    if skipped() {
        return;
    }
    let look = "
        id -u; id -g; id -un; getent passwd hermes | cut -d: -f6
        for path in /init /usr/bin/tini /usr/local/bin/gatevisor /command/with-contenv /command/s6-{svc,svstat,svwait,svscanctl,setuidgid,log,sleep} \
            /command/execlineb /opt/hermes/docker/main-wrapper.sh /opt/hermes/bin/hermes; do
            [[ $(readlink -f $path) == /init && -x $path ]] || echo \"wrong: $path\"
        done
        [[ -x /opt/hermes/docker/entrypoint.sh && -f /opt/hermes/.venv/bin/activate ]] || echo wrong
        /opt/hermes/.venv/bin/hermes --version";
    let answer = container().with("--user 10000:10000 --entrypoint bash").run(&["-c", look]);
    let lines: Vec<&str> = answer.ok().lines().collect();
    assert_eq!(lines.iter().take(4).collect::<Vec<_>>(), [&"10000", &"10000", &"hermes", &"/opt/data"]);
    assert!(!answer.out.contains("wrong"), "{answer:#?}");
    assert!(lines.contains(&"Install directory: /opt/hermes"), "{answer:#?}");
    assert!(lines.contains(&"Install method: docker"), "{answer:#?}");
}

#[test]
fn the_agent_cannot_change_its_own_installation() {
    if skipped() {
        return;
    }
    let try_it = "for dir in /opt/hermes /opt/hermes/.venv /opt/hermes/bin /command /usr/local/bin; do
        if touch $dir/x 2>/dev/null; then echo \"can write in $dir\"; fi; done; touch /opt/data/x";
    let answer = container().with("--user 10000:10000 --entrypoint bash").run(&["-c", try_it]);
    assert_eq!(answer.ok(), "");
}

#[test]
fn a_login_shell_finds_hermes_first_as_every_other_does() {
    if skipped() {
        return;
    }
    let begin = "/opt/hermes/bin:/opt/hermes/.venv/bin:";
    for (user, shell, next) in [
        ("10000:10000", "-c", "/usr/local/sbin:"),
        ("10000:10000", "-lc", "/opt/data/.local/bin:/usr/"),
        ("0:0", "-c", "/usr/local/sbin:"),
        ("0:0", "-lc", "/usr/"),
    ] {
        let answer = container()
            .with(&format!("--user {user} --entrypoint bash"))
            .run(&[shell, "printf '%s\\n' \"$PATH\""]);
        assert!(answer.ok().starts_with(&format!("{begin}{next}")), "{user} {shell}: {answer:?}");
    }
}

#[test]
fn the_image_says_how_it_is_started_and_checked() {
    if skipped() {
        return;
    }
    let ask = |what: &str| docker(["inspect", "--format", what, &image()]).ok().to_owned();
    assert_eq!(ask("{{json .Config.Entrypoint}}"), r#"["/init","/opt/hermes/docker/main-wrapper.sh"]"#);
    assert_eq!(ask("{{.Config.WorkingDir}}"), "/opt/hermes");
    assert_eq!(ask("{{json .Config.Volumes}}"), r#"{"/opt/data":{}}"#);
    assert_eq!(ask("{{.Config.User}}"), "");
    let check = r#"["CMD","/usr/local/bin/gatevisor","health","--supervisor"]"#;
    assert_eq!(ask("{{json .Config.Healthcheck.Test}}"), check);
    assert!(ask("{{json .Config.Labels}}").contains("org.opencontainers.image.title"));
    let env = ask("{{json .Config.Env}}");
    for set in [
        "HERMES_HOME=/opt/data",
        "HERMES_WRITE_SAFE_ROOT=/opt/data",
        "HERMES_DISABLE_LAZY_INSTALLS=1",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
    ] {
        assert!(env.contains(set), "{set}: {env}");
    }
}

#[test]
fn the_minimal_image_is_the_binary_and_an_agent_file() {
    if skipped() {
        return;
    }
    let size: u64 = docker(["inspect", "--format", "{{.Size}}", &minimal_image()]).ok().parse().unwrap();
    let binary = container().with("--entrypoint stat").run(&["--format=%s", "/init"]).ok().parse::<u64>();
    assert!(size < binary.unwrap() + 16 * 1024, "{size} bytes");
}
