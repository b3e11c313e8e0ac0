//! What the image has besides Hermes' wheel: skills, what a new home is made from, and the steps of
//! a boot that keep an old home usable.

use crate::engine::{Volume, container, skipped};

/// Makes a volume in which this script of bash ran as the agent.
fn made_by(script: &str) -> Volume {
    let volume = Volume::new();
    let make = volume.home_of(container()).with("--user 10000:10000 --entrypoint bash");
    make.run(&["-c", &format!("cd /opt/data; {script}")]).ok();
    volume
}

/// Prints the version of the configuration, and the one that this Hermes uses.
const VERSIONS: &str = "/opt/hermes/.venv/bin/python -c 'from hermes_cli.config import check_config_version as v; \
     before, wanted = v(); print(\"same\" if before == wanted else before)'";

#[test]
fn a_new_home_has_a_configuration_of_today_a_file_for_secrets_and_a_soul() {
    if skipped() {
        return;
    }
    let container = container().started();
    let look = "cd /opt/data; stat -c '%a %U %n' .env config.yaml SOUL.md; grep -q TELEGRAM .env; ls -a | grep -c bak-";
    let answer = container.exec(&["bash", "-c", look]);
    assert_eq!(answer.out, "600 hermes .env\n640 hermes config.yaml\n644 hermes SOUL.md\n0\n");
    assert_eq!(container.sh(VERSIONS), "same");
    assert!(container.sh("hermes config check").contains("version"));
    container.sh("cd /opt/data; echo 'A=1' > .env; echo mine > SOUL.md; echo '# mine' >> config.yaml");
    container.restart();
    assert_eq!(container.sh("cd /opt/data; cat .env SOUL.md; tail -1 config.yaml"), "A=1\nmine\n# mine");
}

#[test]
fn the_skills_of_hermes_are_in_the_image_and_in_a_new_home_and_what_the_user_removed_stays_away() {
    if skipped() {
        return;
    }
    let container = container().started();
    let count = "for d in /opt/hermes/skills /opt/hermes/optional-skills /opt/data/skills; do
        find $d -name SKILL.md | wc -l; done; find /opt/data/skills -not -user hermes | wc -l; test -s /opt/hermes/LICENSE; echo $?";
    let counts = container.sh(count);
    let numbers: Vec<u32> = counts.lines().map(|line| line.parse().unwrap()).collect();
    let [bundled, optional, copied, foreign, licence] = numbers[..] else { panic!("{counts}") };
    assert!(bundled > 0 && optional > 0, "{counts}");
    assert_eq!((copied, foreign, licence), (bundled, 0, 0));
    let said = container.says("skills: ");
    assert!(said.contains(&format!("{bundled} new")), "{said}");
    assert!(container.said().lines().count() < 20, "one line for all skills: {}", container.said());
    let first = container.sh(
        "cd /opt/data/skills; s=$(find . -name SKILL.md | sort | head -1); rm -r \"$(dirname \"$s\")\"; echo \"$s\"",
    );
    container.restart();
    assert_eq!(container.sh(&format!("test -e '/opt/data/skills/{first}'; echo $?")), "1");
}

#[test]
fn an_old_configuration_is_migrated_at_boot_and_the_old_file_is_kept() {
    if skipped() {
        return;
    }
    let old = "_config_version: 20\\nmodel: some/model\\n";
    let volume = made_by(&format!("printf '{old}' > config.yaml; echo 'B=2' > .env"));
    let container = volume.home_of(container()).started();
    assert_eq!(container.sh(VERSIONS), "same", "{}", container.said());
    let kept = "cd /opt/data; cat config.yaml.bak-* .env.bak-*; stat -c '%U %a' config.yaml .env.bak-*; grep -c some/model config.yaml";
    assert_eq!(container.sh(kept), "_config_version: 20\nmodel: some/model\nB=2\nhermes 640\nhermes 600\n1");
    container.says("config.yaml: version 20 -> ");
    container.restart();
    assert_eq!(container.sh("ls /opt/data | grep -c bak-"), "1");
}

#[test]
fn an_old_configuration_stays_where_that_is_asked_for_and_a_broken_one_stops_no_boot() {
    if skipped() {
        return;
    }
    let volume = made_by("echo '_config_version: 20' > config.yaml");
    let left = volume
        .home_of(container())
        .env("HERMES_SKIP_CONFIG_MIGRATION", "1")
        .run(&["cat", "/opt/data/config.yaml"]);
    assert_eq!(left.last_line(), "_config_version: 20", "{left:#?}");
    let broken = made_by("printf '_config_version: [20\\n' > config.yaml");
    let answer = broken.home_of(container()).run(&[
        "sh",
        "-c",
        "cat /opt/data/config.yaml; ls /opt/data | grep -c bak-; true",
    ]);
    assert!(answer.ok().ends_with("_config_version: [20\n0"), "{answer:#?}");
}

/// Without a limit for the steps of a boot, one that waits would wait for ever.
#[test]
fn a_file_of_the_home_that_nobody_writes_to_keeps_no_step_of_a_boot_waiting() {
    if skipped() {
        return;
    }
    for (made, said) in [
        ("echo '_config_version: 20' > config.yaml; mkfifo .env", "'/opt/data/.env' is no regular file"),
        (
            "mkdir skills; mkfifo skills/.bundled_manifest",
            "skills: left as they are, because '/opt/data/skills/",
        ),
        ("mkfifo auth.json", "auth.json is no small regular file"),
    ] {
        let volume = made_by(made);
        let start = volume.home_of(container()).env("GATEVISOR_STEP_TIMEOUT", "0");
        let container = start.env("HERMES_AUTH_JSON_REBOOTSTRAP", "{}").started();
        container.says(said);
    }
}

/// The agent, or whoever it lets in, may replace the file by a link before a boot.
#[test]
fn a_configuration_that_is_a_link_is_not_migrated() {
    if skipped() {
        return;
    }
    let volume = made_by("echo '_config_version: 20' > mine.yaml; ln -s mine.yaml config.yaml");
    let answer = volume.home_of(container()).run(&[
        "sh",
        "-c",
        "readlink /opt/data/config.yaml; cat /opt/data/mine.yaml",
    ]);
    assert!(answer.ok().ends_with("mine.yaml\n_config_version: 20"), "{answer:#?}");
}

#[test]
fn a_login_that_is_dead_for_good_is_replaced_by_the_one_offered_and_one_that_works_is_not() {
    if skipped() {
        return;
    }
    let dead = r#"{"providers":{"nous":{"last_auth_error":{"relogin_required":true}},"other":{"access_token":"o"}}}"#;
    let alive = r#"{"providers":{"nous":{"access_token":"works"}}}"#;
    let offered = r#"{"providers":{"nous":{"access_token":"offered"},"other":{"access_token":"no"}}}"#;
    let show = "import json; p = json.load(open('/opt/data/auth.json'))['providers']; \
                print(p['nous'].get('access_token'), p.get('other', {}).get('access_token'))";
    for (before, offer, after) in
        [(dead, offered, "offered o"), (alive, offered, "works None"), (dead, "{\"providers\": 3}", "None o")]
    {
        let volume = made_by(&format!("echo '{before}' > auth.json"));
        let boot = volume.home_of(container()).env("HERMES_AUTH_JSON_REBOOTSTRAP", offer);
        let answer = boot.run(&["python3", "-c", show]);
        assert_eq!(answer.ok().lines().last(), Some(after), "{before} {offer}: {answer:#?}");
    }
}
