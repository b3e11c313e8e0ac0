//! What root's reports and the container's output show of texts that an agent wrote. Each attack
//! has a new cell.

use crate::attack::{Attack, attack};

/// A profile that has been up.
macro_rules! profile {
    ($words:literal) => {
        concat!(
            "cd \"$H\"; mkdir -p profiles/coder logs/gateways/coder; echo > profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > profiles/coder/gateway_state.json; ",
            $words
        )
    };
}

/// Every report that root runs, on a terminal and into a pipe. None may hang, or print a control
/// character.
const REPORTS: &str = "py shown 20 \"$G\" status -- 'gateway status' -- 'gateway status coder' -- 'profile list' -- 'profile show coder' -- logs -- 'logs coder' -- doctor -- 'reconcile --dry-run' -- \
                       's6 s6-svstat /run/service/gateway-coder' -- 's6 s6-svdt /run/service/gateway-coder'";

pub const ALL: &[Attack] = &[
    // Commands that root is told to paste.
    attack("root-pastes-what-doctor-proposes-and-links-are-in-the-way-by-then", profile!("mkdir -p profiles/writer; echo > profiles/writer/SOUL.md; for x in coder writer; do echo API_SERVER_ENABLED=true > profiles/$x/.env; echo TELEGRAM_BOT_TOKEN=same >> \
         profiles/$x/.env; chmod 666 profiles/$x/.env; echo '{\"pid\": 999999}' > profiles/$x/gateway.pid; done"))
        .then("\"$G\" --json doctor > /srv/found || :; test $(grep -c '\"fix\":\"' /srv/found) -ge 4; rm -rf \"$H/profiles/coder\" \"$H/profiles/writer\"; ln -s \"$V/directory\" \"$H/profiles/coder\"; ln -s \"$V/directory\" \"$H/profiles/writer\"; py until 1 false || :; \
         python3 -c 'import json,subprocess\nfor l in open(\"/srv/found\"):\n m = json.loads(l)[\"fix\"]\n if m: subprocess.run([\"sh\", \"-c\", m], timeout=60)'"),
    attack("doctor-is-told-by-files-to-end-processes-of-others", profile!("mkdir -p profiles/writer; echo > profiles/writer/SOUL.md; echo 1 > gateway.pid; echo '{\"pid\": 1}' > profiles/coder/gateway.pid; echo \"{\\\"pid\\\": 1, \\\"start_time\\\": $(sed 's/.*) //' \
         /proc/1/stat | cut -d' ' -f20)}\" > profiles/writer/gateway.pid"))
        .then("said=$(\"$G\" doctor 2>&1 || :); case $said in *'kill '*) echo \"$said\"; exit 9 ;; *gateway.pid*) ;; *) echo \"nothing is found: $said\"; exit 8 ;; esac"),
    attack("root-gives-back-what-a-link-leads-to", "ln -s \"$V/directory\" \"$H/a\"; mkdir -p \"$H/b\"; ln -s \"$V\" \"$H/b/c\"; ln \"$V/readable\" \"$H/b/d\" 2>/dev/null || :")
        .then("for x in a a/x b b/c b/c/secret ../../etc /etc ..; do \"$G\" give-back 10000:10000 \"$H/$x\" 2>/dev/null || :; done; not \"$G\" give-back 10000:10000 /etc/passwd 2>/dev/null"),
    // Reports that root reads.
    attack("reports-of-a-state-file-that-drives-a-terminal", profile!("py nasty state profiles/coder/gateway_state.json; cp profiles/coder/gateway_state.json ."))
        .then(REPORTS),
    attack("reports-of-lines-that-drive-a-terminal", profile!("py nasty lines logs/gateways/coder/current; py nasty lines logs/container-boot.log; py nasty lines logs/gateways/coder/@400000005f0000000000000a.s"))
        .then(REPORTS),
    attack("reports-of-profiles-whose-files-drive-a-terminal", profile!("for x in .env SOUL.md config.yaml gateway.pid active_profile processes.json .gateway-planned-stop.json gateway_state.json; do py nasty lines profiles/coder/$x; py nasty lines $x; done; py nasty \
         env profiles/coder/.env"))
        .then(REPORTS),
    attack("reports-of-profiles-whose-names-drive-a-terminal", profile!("cd profiles; py nasty names; cd ../logs/gateways; py nasty names; cd \"$S\"; py nasty names; rescan"))
        .then(REPORTS),
    attack("reports-of-slots-whose-notes-drive-a-terminal", profile!("cd \"$S\"; for d in gateway-coder .gateway-x; do mkdir -p $d/data $d/log $d/cgroup; for x in log/error data/start-error data/restart-codes data/note data/fail-codes data/backoff-first timeout-kill \
         notification-fd run log/run cgroup/pids; do rm -rf $d/$x; py nasty lines $d/$x || :; done; done; payload .gateway-x/run; mv .gateway-x gateway-x; rescan"))
        .then(REPORTS),
    attack("reports-of-processes-whose-names-drive-a-terminal", profile!("new; printf '#!/usr/bin/python3\\nimport os\\nos.execv(\"/usr/bin/sleep\", [\"\\x1b[2J\\ngatevisor: FORGED\", \"3600\"])\\n' > run; place; up"))
        .then(REPORTS),
    attack("a-slot-without-a-logger-speaks-as-the-supervisor", "new; printf '#!/bin/sh\\nprintf \"gatevisor: FORGED by a slot\\ninit: FORGED\\nreconcile: FORGED\\n\\033]52;c;aGk=\\007\\033[2J\"\\nexec /usr/bin/sleep 3600\\n' > run; place; up")
        .then("sleep 0.2"),
    attack("a-finish-script-speaks-as-the-supervisor", "new; printf '#!/bin/sh\\nprintf \"gatevisor: FORGED\\n\\033[2J\\n\"\\n' > finish; chmod 755 finish; printf '#!/bin/sh\\nexit 1\\n' > run; place; up; tell -k; tell -d")
        .then("sleep 0.2"),
    attack("the-interpreter-speaks-the-slots-words-as-the-supervisor", "new; printf '#!/usr/local/bin/gatevisor service\\ncommand = [\"\\\\ngatevisor: FORGED\\\\u001b[2J\"]\\n\"\\\\n\\\\u001b[2Jgatevisor: FORGED\" = 1\\n' > run; place; try")
        .then("sleep 0.2"),
    attack("a-log-label-speaks-as-the-supervisor", "new; mkdir log; printf '#!/usr/local/bin/gatevisor log\\ndirectory = \"lines\"\\nforward = \"label\"\\nlabel = \"gatevisor: FORGED\\\\u001b[2J\\\\ngatevisor\"\\n' > log/run; chmod 755 log/run; printf '#!/bin/sh\\necho hello\\nexec \
         /usr/bin/sleep 3600\\n' > run; place; up"),
    attack("a-log-that-is-forwarded-raw-speaks-as-the-supervisor", "new; mkdir log; printf '#!/usr/local/bin/gatevisor log\\ndirectory = \"lines\"\\nforward = \"raw\"\\n' > log/run; chmod 755 log/run; printf '#!/bin/sh\\nprintf \"gatevisor: FORGED\\n\\033[2J\\n\"\\nexec \
         /usr/bin/sleep 3600\\n' > run; place; up"),
    attack("profiles-whose-names-speak-as-the-boot", "cd \"$H\"; mkdir -p profiles; cd profiles; for x in \"$(printf 'x\\ngatevisor: FORGED')\" \"$(printf '\\033[2J')\" \"$(printf '\\033]52;c;aGk=\\007')\"; do mkdir -p \"$x\"; echo > \"$x/SOUL.md\"; done; ln -s /nowhere \"$(printf \
         'l\\ninit: FORGED')\""),
];
