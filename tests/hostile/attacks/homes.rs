//! Homes that are reached through directories of the agent, and what the agent leaves where root
//! looks. Each attack has a new container.

use crate::attack::{Attack, attack};

/// Every command that root runs in a home, however the home is named.
macro_rules! verbs_in {
    ($home:literal) => {
        concat!(
            "g() { timeout 20 \"$G\" --home ",
            $home,
            " --scandir \"$S\" \"$@\" </dev/null >/dev/null 2>&1 || test $? -ne 124 || { echo \"it hangs: $*\"; exit 8; }; }; cd /; g profile create made; g profile create coder; g gateway start coder --no-wait; g \
             gateway stop coder --no-wait; g status; g logs; g doctor; g reconcile; g profile delete coder --yes; g profile delete made --yes"
        )
    };
}

pub const ALL: &[Attack] = &[
    attack("boot-the-way-to-the-home-becomes-a-link-to-etc", "cd \"$H\"; mv a was-a; ln -s /etc a")
        .planted("mkdir -p /etc/apt/apt.conf.d; echo precious > /etc/apt/sources")
        .with("HERMES_HOME=/opt/data/a/apt")
        .holds("test \"$(stat -c %u /etc/apt /etc/apt/apt.conf.d /etc/apt/sources | sort -u)\" = 0; test \"$(ls /etc/apt | wc -l)\" = 2"),
    attack("boot-the-way-to-the-home-becomes-a-link-to-files-of-root", "cd \"$H\"; mv a was-a; ln -s \"$V\" a").with("HERMES_HOME=/opt/data/a/home"),
    attack("boot-a-far-step-on-the-way-to-the-home-is-a-link", "cd \"$H\"; mv a was-a; mkdir a; ln -s ../../../etc a/b")
        .planted("mkdir -p /etc/c/d")
        .with("HERMES_HOME=/opt/data/a/b/c/d")
        .holds("test \"$(stat -c %u /etc/c /etc/c/d | sort -u)\" = 0; test -z \"$(ls /etc/c/d)\""),
    attack("boot-the-home-is-made-through-a-link", "cd \"$H\"; mv a was-a; ln -s /etc a").with("HERMES_HOME=/opt/data/a/new/home").holds("test ! -e /etc/new"),
    attack("boot-the-home-itself-becomes-a-link", "cd \"$H\"; mv a was-a; ln -s /etc a").with("HERMES_HOME=/opt/data/a"),
    attack("boot-the-way-to-the-home-leads-through-a-process", "cd \"$H\"; mv a was-a; ln -s /proc/1/root/etc a")
        .planted("mkdir -p /etc/apt")
        .with("HERMES_HOME=/opt/data/a/apt")
        .holds("test \"$(stat -c %u /etc/apt)\" = 0; test -z \"$(ls /etc/apt)\""),
    attack("boot-the-way-to-the-home-and-a-link-change-places", "cd \"$H\"; mkdir -p a/apt; ln -s /etc l")
        .planted("mkdir -p /etc/apt; echo precious > /etc/apt/sources")
        .with("HERMES_HOME=/opt/data/a/apt")
        .meanwhile("py exchange 60 a l")
        .holds("test \"$(stat -c %u /etc/apt /etc/apt/sources | sort -u)\" = 0; test \"$(ls /etc/apt | wc -l)\" = 1"),
    attack("boot-the-way-to-the-home-goes-up", "cd \"$H\"; mkdir -p a b; mv a was-a; ln -s /etc/apt a")
        .planted("mkdir -p /etc/apt /etc/home")
        .with("HERMES_HOME=/opt/data/a/../home")
        .holds("test \"$(stat -c %u /etc/home /etc/apt | sort -u)\" = 0; test -z \"$(ls /etc/home)\""),
    attack("root-names-the-home-by-a-link-of-its-own", "cd \"$H\"; rm -rf profiles; ln -s \"$V/home/profiles\" profiles; rm -rf logs; ln -s \"$V/home/logs\" logs")
        .planted("ln -s /opt/data /srv/by-link")
        .then(verbs_in!("/srv/by-link")),
    attack("root-names-the-home-by-a-way-through-the-agents", "cd \"$H\"; ln -s \"$V\" a")
        .then(verbs_in!("/opt/data/a/home")),
    attack("root-names-a-home-of-root-below-the-agents", "cd \"$H\"; mkdir -p a")
        .planted("mkdir -p /opt/data/a/home/profiles; chown -R 0:0 /opt/data/a; chown 10000:10000 /opt/data/a /opt/data/a/home/profiles; ln -s \"$V/home/profiles/coder\" /opt/data/a/home/profiles/coder")
        .then(verbs_in!("/opt/data/a/home")),
    attack("root-stands-in-the-home", "cd \"$H\"; rm -rf profiles; ln -s \"$V/home/profiles\" profiles")
        .then(concat!("cd /opt/data; ", "g() { timeout 20 \"$G\" --home . \"$@\" </dev/null >/dev/null 2>&1 || test $? -ne 124; }; g profile create made; g profile delete coder --yes; g gateway start coder --no-wait")),
    attack("boot-the-socket-of-an-engine-is-a-link", "ln -s /srv/bed/sock /run/docker.sock; true")
        .planted("py socket /srv/bed/sock; chgrp 42 /srv/bed/sock"),
    attack("boot-the-socket-of-an-engine-is-the-agents-own", "py socket /run/docker.sock; ls -l /run/docker.sock")
        .planted("mkdir -p /srv/drop; chgrp 42 /srv/drop; chmod 3777 /srv/drop"),
    attack("boot-the-socket-of-an-engine-was-made-in-a-directory-of-a-group", "py socket /srv/drop/s; mv /srv/drop/s /run/docker.sock")
        .planted("mkdir -p /srv/drop; chgrp 42 /srv/drop; chmod 3777 /srv/drop"),
    attack("boot-the-socket-of-an-engine-is-a-second-name", "true").planted("py socket /srv/bed/sock; chgrp 42 /srv/bed/sock; ln /srv/bed/sock /run/docker.sock; chown 10000 /srv/bed/sock"),
    attack("boot-a-slot-is-a-link-into-a-file-system-that-never-answers", "py fuse \"$T/f\"; link=/proc/$(cat \"$T/f\")/root/tmp/never; cd \"$S\"; ln -s $link/slot \"$D\"; for x in a b c; do ln -s $link/$x \"$S/$N-$x\"; done; \
         rescan")
        .mounted("mknod -m 666 \"$R/dev/fuse\" c 10 229; CAPABILITIES+=,+sys_ptrace")
        .then("timeout 20 \"$G\" status >/dev/null 2>&1 || test $? -ne 124; for t in s6-svstat s6-svok s6-svdt; do timeout 20 \"$G\" s6 $t \"$D\" >/dev/null 2>&1 || test $? -ne 124; done; timeout 20 \"$G\" \
               doctor >/dev/null 2>&1 || test $? -ne 124"),
    attack("boot-parts-of-slots-are-links-into-a-file-system-that-never-answers", "py fuse \"$T/f\"; link=/proc/$(cat \"$T/f\")/root/tmp/never; for x in run finish event supervise log data env cgroup down \
         notification-fd timeout-kill lock-fd flag-newpidns; do N=never-$x; D=\"$S/$N\"; new; rm -rf $x; ln -s $link/$x $x; mv \"$S/.$N\" \"$D\"; done; rescan")
        .mounted("mknod -m 666 \"$R/dev/fuse\" c 10 229; CAPABILITIES+=,+sys_ptrace")
        .then("timeout 30 \"$G\" status >/dev/null 2>&1 || test $? -ne 124; for d in \"$S\"/never-*; do for t in s6-svstat s6-svok s6-svdt; do timeout 20 \"$G\" s6 $t \"$d\" >/dev/null 2>&1 || test $? -ne \
               124; done; timeout 20 \"$G\" s6 s6-svwait -t 200 -u \"$d\" >/dev/null 2>&1 || test $? -ne 124; done"),
    attack("the-home-is-full-of-links-into-a-file-system-that-never-answers", "py fuse \"$T/f\"; link=/proc/$(cat \"$T/f\")/root/tmp/never; cd \"$H\"; mkdir -p profiles/coder profiles/other; echo > profiles/coder/SOUL.md; rm -rf logs; ln -s \
         $link/logs logs; for x in gateway_state.json SOUL.md .env config.yaml; do ln -sf $link/$x profiles/other/$x; ln -sf $link/$x $x; done; ln -s $link/p profiles/linked")
        .mounted("mknod -m 666 \"$R/dev/fuse\" c 10 229; CAPABILITIES+=,+sys_ptrace")
        .then("for v in status 'gateway status' doctor 'profile list' 'logs' 'logs coder' 'profile show other'; do timeout 20 \"$G\" $v </dev/null >/dev/null 2>&1 || test $? -ne 124 || { echo \"it hangs: $v\"; exit 8; \
               }; done"),
];
