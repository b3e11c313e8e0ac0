//! The end of the container, and of services whose processes resist their end. Each attack has a
//! new cell.

use crate::attack::{Attack, attack};

/// A service of another user, which needs three seconds to end, and then records that it had them.
const BYSTANDER: &str = "cd \"$S\"; mkdir -p /srv/slow; chown 10001 /srv/slow; mkdir .slow; printf '#!/bin/bash\ntrap \"sleep 3; echo clean > /srv/slow/end; exit 0\" TERM\n: > /srv/slow/up\nwhile :; do sleep 0.1; done\n' > .slow/run; chmod 755 .slow/run; chown -R 10001:10001 .slow; mv .slow slow; py taken \"$S/slow\"; \
                         s6 s6-svwait -t 20000 -u \"$S/slow\"; py until 30 test -e /srv/slow/up";
const HAD_ITS_TIME: &str = "grep -q clean /srv/slow/end";

/// Six services `deaf-N` of the attacker. The script runs in the directory of each, and makes its
/// content.
macro_rules! deaf {
    ($words:literal) => {
        concat!(
            "for n in 1 2 3 4 5 6; do N=deaf-$n; D=\"$S/$N\"; mkdir \"$S/.$N\"; cd \"$S/.$N\"; echo 0 > timeout-kill; ",
            $words,
            "; chmod 755 run; place; tell -u; py until 30 test -e \"$T/$N\"; done"
        )
    };
}

pub const ALL: &[Attack] = &[
    // Attacks that could use up the time of other users.
    attack("slots-that-ignore-term-and-a-bystander-that-needs-three-seconds", "for n in 1 2 3; do N=deaf-$n; D=\"$S/$N\"; mkdir \"$S/.$N\"; printf '#!/bin/bash\ntrap \"\" TERM INT HUP\nwhile :; do sleep 1; done\n' > \"$S/.$N/run\"; chmod 755 \"$S/.$N/run\"; mv \"$S/.$N\" \"$D\"; py taken \"$D\"; up; done; N=gateway-deaf; D=\"$S/$N\"; mkdir \"$S/.$N\"; cp \
         \"$S/deaf-1/run\" \"$S/.$N/run\"; mv \"$S/.$N\" \"$D\"; py taken \"$D\"; up")
        .with("GATEVISOR_GRACE=12")
        .then(BYSTANDER)
        .holds(HAD_ITS_TIME),
    attack("services-that-stop-themselves-beside-loggers-that-are-deaf", deaf!("mkdir log; printf \"#!/bin/bash\ntrap '' TERM INT HUP\nwhile :; do sleep 1; done\n\" > log/run; chmod 755 log/run; printf \"#!/bin/bash\ntrap '' TERM HUP\necho > $T/$N\nkill -STOP \\$\\$\nsleep 3600\n\" > run"))
        .with("GATEVISOR_GRACE=12")
        .then(BYSTANDER)
        .holds(HAD_ITS_TIME),
    attack("finish-scripts-without-an-end-that-may-take-all-the-time", deaf!("echo 0 > timeout-finish; printf \"#!/bin/bash\ntrap '' TERM INT HUP\nwhile :; do sleep 1; done\n\" > finish; chmod 755 finish; printf \"#!/bin/bash\necho > $T/$N\nexec sleep 3600\n\" > run"))
        .with("GATEVISOR_GRACE=12")
        .then(BYSTANDER)
        .holds(HAD_ITS_TIME),
    // Chains.
    attack("chains-of-processes-that-fork-and-end", "new; printf '#!/usr/bin/python3\nimport os, signal, time\nfor s in (15, 1, 2): signal.signal(s, signal.SIG_IGN)\nfor n in range(20):\n  if os.fork() == 0: break\nos.setsid() if os.getpid() != os.getsid(0) else None\nwhile True:\n  try:\n    if os.fork(): os._exit(0)\n  except OSError: time.sleep(0.01)\n  time.sleep(0.001)\n' > run; \
         place; tell -u; sleep 1")
        .with("GATEVISOR_GRACE=3"),
    attack("chains-that-double-as-they-fork", "new; printf '#!/usr/bin/python3\nimport os, signal, time\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n  except OSError: pass\nos.setpriority(os.PRIO_PROCESS, 0, 19)\nend = time.time() + 60\nwhile time.time() < end:\n  try:\n    if os.fork():\n      time.sleep(0.05); os._exit(0)\n    os.setsid()\n  except OSError: time.sleep(0.05)\n' > run; \
         for n in 1 2 3 4 5; do cp -r \"$S/.$N\" \"$S/.c$n\"; mv \"$S/.c$n\" \"$S/c$n\"; done; place; tell -u; sleep 1")
        .with("GATEVISOR_GRACE=3"),
    attack("chains-that-a-finish-script-begins-at-the-end", deaf!("echo 0 > timeout-finish; printf \"#!/bin/sh\nexec python3 $A chain 10 60\n\" > finish; chmod 755 finish; printf \"#!/bin/bash\necho > $T/$N\nexec sleep 3600\n\" > run"))
        .with("GATEVISOR_GRACE=3"),
    attack("chains-at-the-end-of-a-service-which-root-starts-again", "new; printf \"#!/bin/sh\npython3 $A chain 10 8 &\necho > $T/up\nexec sleep 3600\n\" > run; place; tell -u; py until 30 test -e \"$T/up\"")
        .then("s6 s6-svc -wD -T 30000 -d \"$D\"; rm -f \"$T/up\"; s6 s6-svc -wu -T 60000 -u \"$D\"; py until 60 test -e \"$T/up\"; s6 s6-svc -wD -T 30000 -dk \"$D\"; py until 60 python3 \"$A\" no_zombies"),
];
