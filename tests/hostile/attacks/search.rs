//! Programs of the agent where root looks for programs, during the boot and afterwards. Each attack
//! has a new container.

use crate::attack::{Attack, attack};

/// Puts programs of these names into a directory. They record as whom they run, and end at once.
macro_rules! programs {
    ($directory:literal) => {
        concat!(
            "mkdir -p ",
            $directory,
            "; for x in gatevisor ls mkdir cat id sleep hermes s6-svok env sh bash; do printf '#!/bin/dash\\n/usr/bin/id -u >> %s/ran\\nexec /usr/bin/true\\n' \"$T\" > ",
            $directory,
            "/$x; chmod 755 ",
            $directory,
            "/$x; done"
        )
    };
}

/// What an operator does as root, with the commands of the documents.
const OPERATOR: &str = "/usr/bin/env gatevisor status >/dev/null 2>&1 || :; /usr/bin/env ls / >/dev/null; /usr/bin/env id >/dev/null; /usr/bin/env hermes version >/dev/null 2>&1 || :; \
                        /bin/bash -lc 'ls / >/dev/null; gatevisor status >/dev/null 2>&1; id >/dev/null'; /bin/sh -lc 'ls /; id' >/dev/null; /bin/bash -ic 'ls /; id' >/dev/null 2>&1";

/// A hook of the image that calls programs by their names.
macro_rules! hook {
    ($words:literal) => {
        concat!("printf '#!", $words, "\\n' > /etc/cont-init.d/10-names; chmod 755 /etc/cont-init.d/10-names")
    };
}

pub const ALL: &[Attack] = &[
    attack("boot-programs-of-root-are-looked-for-in-the-home", programs!("\"$H/.local/bin\"")).then(OPERATOR),
    attack("boot-hooks-look-for-programs-in-the-home", programs!("\"$H/.local/bin\""))
        .planted(hook!("/bin/sh\\nls / >/dev/null; mkdir -p /tmp/x; sleep 0; gatevisor --version; cat /dev/null")),
    attack("boot-the-interpreter-of-a-hook-is-looked-for-in-the-home", programs!("\"$H/.local/bin\""))
        .planted(hook!("/usr/bin/env bash\\ntrue")),
    attack("boot-the-path-of-an-operator-begins-in-the-home", programs!("\"$H/bin\""))
        .with("PATH=/opt/data/bin:/usr/local/bin:/usr/bin:/bin")
        .planted(hook!("/bin/sh\\nls / >/dev/null; mkdir -p /tmp/x; cat /dev/null")),
    attack("boot-the-path-leads-through-a-link-into-the-home", programs!("\"$H/bin\""))
        .with("PATH=/srv/tools:/usr/local/bin:/usr/bin:/bin")
        .planted(concat!("ln -s /opt/data/bin /srv/tools; ", hook!("/bin/sh\\nls / >/dev/null; cat /dev/null"))),
    attack("boot-the-path-has-an-empty-part", concat!("cd \"$H\"; ", programs!(".")))
        .with("PATH=:/usr/local/bin:/usr/bin:/bin:.")
        .planted(hook!("/bin/sh\\ncd /opt/data; ls / >/dev/null; cat /dev/null")),
    attack(
        "boot-a-hook-is-put-beside-roots",
        "not touch /etc/cont-init.d/99-mine 2>/dev/null; cd /run; mkdir -p cont-init.d 2>/dev/null; payload cont-init.d/00-mine 2>/dev/null || :; mkdir -p \"$H/etc/cont-init.d\"; \
         payload \"$H/etc/cont-init.d/00-mine\"",
    ),
    attack("boot-a-service-of-root-looks-for-its-program-in-the-home", programs!("\"$H/.local/bin\"")).then(
        "cd \"$S\"; rm -rf .$N; /usr/bin/mkdir .$N; printf '#!/usr/local/bin/gatevisor service\\ncommand = [\"sleep\", \"77\"]\\n' > .$N/run; chmod 755 .$N/run; mv .$N $N; \
         py taken \"$D\"; s6 s6-svwait -t 20000 -u \"$D\"",
    ),
    attack(
        "boot-the-account-files-are-awaited-in-the-home",
        "cd \"$H\"; mkdir -p etc lib; echo 'hermes:x:0:0::/:/bin/sh' > etc/passwd; echo /opt/data/lib/evil.so > etc/ld.so.preload; mkdir -p .ssh; echo > .ssh/authorized_keys; echo 'id -u >> \
         /srv/attacker/ran' | tee .profile .bashrc .bash_profile .bash_login .bash_logout .inputrc .profile.d > /dev/null",
    )
    .then("/bin/bash -lc true; /bin/bash -ic true 2>/dev/null"),
];
