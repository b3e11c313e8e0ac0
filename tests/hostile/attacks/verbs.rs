//! What an operator does with `gatevisor` in the attacker's home, as the supervisor's user, and how
//! the output is shown.

use crate::attack::{Attack, attack};

/// Every command, in a home that the attacker prepared. None may hang; they need not succeed.
macro_rules! verbs {
    () => {
        "cd /; g() { said=$(timeout 30 \"$G\" --home \"$T/home\" --scandir \"$S\" \"$@\" 2>&1 </dev/null) || test $? -ne 124 || { echo \"it hangs: $*\"; exit 8; }; case $said in \
         *precious*) echo \"$*: $said\"; exit 9 ;; esac; }; g profile create fresh; g profile list; g gateway status coder; g gateway start coder --no-wait; g gateway stop coder \
         --no-wait; g gateway restart coder --no-wait; g status; g --json status; g logs coder; g reconcile; g profile delete coder --yes; g profile delete fresh --yes; g status"
    };
}

macro_rules! home {
    ($name:literal, $words:literal) => {
        attack(
            $name,
            concat!(
                "mkdir -p \"$T/home/profiles/coder\" \"$T/home/logs/gateways/coder\"; cd \"$T/home\"; echo > profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > \
                 profiles/coder/gateway_state.json; echo A=1 > profiles/coder/.env; echo line > logs/gateways/coder/current; ",
                $words
            ),
        )
        .then(verbs!())
    };
}

pub const ALL: &[Attack] = &[
    home!("the-profiles-are-a-link", "rm -r profiles; ln -s \"$V/directory\" profiles").of_the_served(),
    home!("the-profiles-are-somebody-elses", "rm -r profiles; ln -s \"$V/home/profiles\" profiles").of_the_served(),
    home!("a-profile-is-somebody-elses", "rm -r profiles/coder; ln -s \"$V/home/profiles/coder\" profiles/coder").of_the_served(),
    home!("the-home-is-somebody-elses", "cd \"$T\"; rm -rf home; ln -s \"$V/home\" home").of_the_served(),
    home!("a-profile-is-a-link", "rm -r profiles/coder; ln -s \"$V/directory\" profiles/coder").of_the_served(),
    home!("a-profile-holds-links-to-everything", "ln -s \"$V\" profiles/coder/x; ln -s /etc profiles/coder/y"),
    home!("the-state-file-is-a-link", "ln -sf \"$V/readable\" profiles/coder/gateway_state.json; ln -sf \"$V/readable\" gateway_state.json"),
    home!("the-state-file-is-a-fifo", "rm profiles/coder/gateway_state.json; mkfifo profiles/coder/gateway_state.json gateway_state.json"),
    home!("the-state-file-is-a-directory", "rm profiles/coder/gateway_state.json; mkdir -p profiles/coder/gateway_state.json/x gateway_state.json/x"),
    home!("the-state-file-is-endless", "ln -sf /dev/zero profiles/coder/gateway_state.json; truncate -s 1G gateway_state.json"),
    home!("the-boot-log-is-a-link", "ln -s \"$V/readable\" logs/boot.log"),
    home!("the-boot-log-is-a-fifo", "mkfifo logs/boot.log"),
    home!("the-boot-log-is-a-directory", "mkdir -p logs/boot.log/x"),
    home!("the-logs-are-a-link", "rm -r logs; ln -s \"$V/directory\" logs").of_the_served(),
    home!("a-log-is-a-link-to-a-secret", "ln -sf \"$V/secret\" logs/gateways/coder/current.x; rm logs/gateways/coder/current; mkfifo logs/gateways/coder/current"),
    home!("the-secrets-are-a-link-to-a-secret", "ln -sf \"$V/secret\" profiles/coder/.env; ln -sf \"$V/secret\" .env; ln -s \"$V/secret\" config.yaml"),
    home!("run-is-a-link", "mkdir -p run; ln -s \"$V/directory\" run/service; ln -s \"$V/directory\" run/x").of_the_served(),
    home!("a-profile-cannot-be-entered", "chmod 000 profiles/coder; mkdir -p profiles/other/deep; chmod 000 profiles/other"),
    home!("ten-thousand-profiles", "python3 -c 'import os\nfor n in range(10000): os.mkdir(f\"profiles/p{n}\")'"),
    attack(
        "the-environment-of-with-contenv-is-hostile",
        "mkdir \"$T/env\"; cd \"$T/env\"; ln -s \"$V/secret\" SECRET; mkfifo FIFO; printf '/tmp/evil.so' > LD_PRELOAD_OF_MINE; truncate -s 1G HUGE; ln -s /dev/zero ZERO; echo x > 'A=B'",
    )
    .then("for f in FIFO HUGE ZERO; do timeout 20 env GATEVISOR_CONTENV_DIR=\"$T/env\" \"$G\" s6 with-contenv env >/dev/null 2>&1 || test $? -ne 124; rm -f \"$T/env/$f\" 2>/dev/null || :; done"),
    attack(
        "the-dumped-environment-is-written-to",
        "e=/run/s6/container_environment; for f in PATH LD_PRELOAD NEW HOME; do ! (echo /tmp/evil > $e/$f) 2>/dev/null || exit 9; done; ! mv $e $e.x 2>/dev/null; ! mv /run/s6 \
         /run/s6.x 2>/dev/null; ! rm -f $e/PATH 2>/dev/null",
    )
    .in_a_container(),
    attack(
        "tools-of-s6-are-led-astray",
        "new; place; cd \"$D\"; rm -rf supervise; ln -s \"$V/closed\" supervise; mkdir \"$S/hang\"; mkdir \"$S/hang/supervise\"; mkfifo \"$S/hang/supervise/status\" \
         \"$S/hang/supervise/lock\" \"$S/hang/supervise/death_tally\"; truncate -s 1G \"$S/hang/run\"",
    )
    .then("for d in \"$D\" \"$S/hang\"; do for t in s6-svstat s6-svok s6-svdt 's6-svwait -t 200 -u' 's6-svc -d'; do timeout 20 \"$G\" s6 $t \"$d\" >/dev/null 2>&1 || test $? -ne 124; done; done"),
];
