//! Who owns the files of the home after a boot, and what the first boot makes there.

use crate::engine::{ROOT, container, skipped};
use crate::hermes;

#[test]
fn what_root_left_behind_is_the_agent_s_again_and_nothing_else_changes_hands_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.root_sh(
        "cd /opt/data; mkdir -p profiles/a/deep/er cron/jobs mine/too; touch profiles/a/deep/er/file cron/jobs/x mine/too/y \
         auth.json state.db host_secret.json .env config.yaml logs/gateways/z; chmod 644 .env config.yaml; chown -R 0:0 logs/gateways",
    );
    container.restart();
    let whose = "cd /opt/data; stat -c '%U %n' profiles/a/deep/er/file cron/jobs/x logs/gateways/z auth.json state.db \
                 host_secret.json mine/too/y; stat -c '%a %U %n' .env config.yaml";
    let expected = "hermes profiles/a/deep/er/file\nhermes cron/jobs/x\nhermes logs/gateways/z\nhermes auth.json\n\
                    hermes state.db\nroot host_secret.json\nroot mine/too/y\n600 hermes .env\n640 hermes config.yaml";
    assert_eq!(container.sh(whose), expected);
}

#[test]
fn a_symbolic_link_is_never_followed_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.root_sh(
        "mkdir -p /srv/outside/sub; touch /srv/outside/file /srv/outside/sub/x; chown -R 0:0 /srv/outside; cd /opt/data; \
         rm -rf pairing cron; ln -s /srv/outside pairing; ln -s /srv/outside/file auth.json; mkdir -p profiles/p; \
         ln -s /srv/outside/sub profiles/p/link; ln -s /srv/outside cron",
    );
    container.restart();
    let outside = "stat -c %U /srv/outside /srv/outside/file /srv/outside/sub /srv/outside/sub/x";
    assert_eq!(container.sh(outside), "root\nroot\nroot\nroot");
    assert_eq!(
        container.sh("cd /opt/data; readlink pairing cron auth.json"),
        "/srv/outside\n/srv/outside\n/srv/outside/file"
    );
    let said = container.said();
    assert!(said.contains("refusing") && said.contains("pairing"), "{said}");
}

#[test]
fn a_large_tree_is_repaired_with_a_word_now_and_then_and_only_where_it_is_wrong_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    // The first half belongs to Hermes, the second half to root.
    let script = "import os
os.makedirs('/opt/data/profiles/big'); os.chdir('/opt/data/profiles/big')
open('/srv/outside', 'w').close()
for d in range(20):
    os.mkdir(f'{d}')
    for i in range(1000):
        name = f'{d}/{i}'
        open(name, 'w').close()
        if d < 10: os.chown(name, 10000, 4242)
    os.symlink('/srv/outside', f'{d}/link')";
    container.exec_as(ROOT, &["/opt/hermes/.venv/bin/python", "-c", script]).ok();
    container.restart();
    let count = "cd /opt/data/profiles/big; find . -type f -user hermes | wc -l; find . -type f -group 4242 | wc -l; \
                 find . -type l -user root | wc -l; find . ! -type l -user root | wc -l; stat -c %U /srv/outside";
    assert_eq!(container.sh(count), "20000\n10000\n20\n0\nroot");
    let said = container.said();
    assert!(
        said.contains("owners: looked at 10000 entries") && said.contains("looked at 20000 entries"),
        "{said}"
    );
    // Half of the files, twenty directories, and the directory that holds them.
    assert!(said.contains("gave 10021 of "), "{said}");
    container.restart();
    assert_eq!(container.said().matches("init: gave ").count(), said.matches("init: gave ").count());
}

#[test]
fn the_first_boot_makes_what_is_missing_and_the_second_changes_nothing() {
    if skipped() {
        return;
    }
    let container = container()
        .env("HERMES_AUTH_JSON_BOOTSTRAP", "{\"first\": 1}")
        .env("HERMES_GATEWAY_BOOTSTRAP_STATE", "running")
        .started();
    container.waits("-u", "gateway-default");
    // While it starts, it reads and writes the state file in which a stop is recorded.
    hermes::running(&container, "default", 1);
    let look = "cd /opt/data; stat -c '%a %U' auth.json; cat auth.json; echo; ls -d backups cron sessions logs/gateways hooks memories \
                skills skins plans workspace home pairing platforms/pairing lazy-packages | wc -l";
    assert_eq!(container.sh(look), "600 hermes\n{\"first\": 1}\n14");
    container.hermes("-p default gateway stop").ok();
    container.waits("-D", "gateway-default");
    container.sh("echo mine > /opt/data/auth.json; printf ' docker\\n' > /opt/data/.install_method");
    container.restart();
    assert_eq!(
        container.sh("cat /opt/data/auth.json; test ! -e /opt/data/.install_method; echo $?"),
        "mine\n0"
    );
    assert!(container.state("gateway-default").starts_with("down"), "{}", container.said());
}

#[test]
fn a_home_with_an_odd_name_below_directories_of_root_works() {
    if skipped() {
        return;
    }
    let home = "/srv/a b$(id)'/home";
    let answer = container().env("HERMES_HOME", home).run(&[
        "sh",
        "-c",
        "stat -c '%U %n' \"$HERMES_HOME\"; touch \"$HERMES_HOME/x\"",
    ]);
    assert_eq!(answer.ok().lines().last(), Some(format!("hermes {home}").as_str()), "{answer:#?}");
}
