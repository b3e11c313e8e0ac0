//! Homes that are reached through what the agent owns, and what it leaves where root looks. Each has a fresh container.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("boot-the-home-itself-becomes-a-link", "cd \"$H\"; mv a was-a; ln -s /etc a").with("HERMES_HOME=/opt/data/a"),
    attack("root-stands-in-the-home", "cd \"$H\"; rm -rf profiles; ln -s \"$V/home/profiles\" profiles")
        .then(concat!("cd /opt/data; ", "g() { timeout 20 \"$G\" --home . \"$@\" </dev/null >/dev/null 2>&1 || test $? -ne 124; }; g profile create made; g profile delete coder --yes; g gateway start coder --no-wait")),
    attack("boot-the-socket-of-an-engine-is-a-link", "ln -s /srv/bed/sock /run/docker.sock; true")
        .planted("py socket /srv/bed/sock; chgrp 42 /srv/bed/sock"),
    attack("boot-the-socket-of-an-engine-is-the-agents-own", "py socket /run/docker.sock; ls -l /run/docker.sock")
        .planted("mkdir -p /srv/drop; chgrp 42 /srv/drop; chmod 3777 /srv/drop"),
    attack("boot-the-socket-of-an-engine-was-made-in-a-directory-of-a-group", "py socket /srv/drop/s; mv /srv/drop/s /run/docker.sock")
        .planted("mkdir -p /srv/drop; chgrp 42 /srv/drop; chmod 3777 /srv/drop"),
    attack("boot-the-socket-of-an-engine-is-a-second-name", "true").planted("py socket /srv/bed/sock; chgrp 42 /srv/bed/sock; ln /srv/bed/sock /run/docker.sock; chown 10000 /srv/bed/sock"),
];
