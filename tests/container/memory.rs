//! A container whose memory is limited: gateways that the kernel kills because memory ran out are
//! reported so.

use crate::engine::{Container, container, skipped};

/// Makes a slot of a gateway that is down, and that does this when it is started.
fn make(container: &Container, does: &str) {
    container.sh(&format!(
        "mkdir -p /opt/data/profiles/hungry /run/service/.hungry && cd /run/service/.hungry && touch down && \
         printf '#!/bin/sh\\nexec %s\\n' '{does}' > run && chmod 755 run && mv -T /run/service/.hungry /run/service/gateway-hungry && \
         touch /opt/data/profiles/hungry/SOUL.md && /command/s6-svscanctl -a /run/service"
    ));
    container.sh("timeout 45 sh -c 'until /command/s6-svok /run/service/gateway-hungry; do :; done'");
}

fn svc(container: &Container, words: &[&str]) {
    let mut all = vec!["/command/s6-svc", "-T", "45000"];
    all.extend(words);
    all.push("/run/service/gateway-hungry");
    container.exec(&all).ok();
}

fn status(container: &Container) -> String {
    container.exec(&["gatevisor", "gateway", "status", "hungry", "--json"]).out
}

#[test]
fn a_gateway_that_the_kernel_kills_for_want_of_memory_is_said_to_be_out_of_memory() {
    if skipped() {
        return;
    }
    let container = container().with("--memory 192m --memory-swap 192m").started();
    let counts = "grep -qs '^oom_kill ' /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events && echo yes || echo no";
    if container.root_sh(counts) == "no" {
        eprintln!("skipped: the kernel does not count here whom it kills for want of memory");
        return;
    }
    make(&container, "tail /dev/zero");
    svc(&container, &["-wu", "-o"]);
    container.waits("-D", "gateway-hungry");
    let said = status(&container);
    assert!(said.contains("out of memory: the kernel killed it") && said.contains("SIGKILL"), "{said}");
    let everything = container.exec(&["gatevisor", "status", "--json"]).out;
    assert!(everything.contains("out of memory: the kernel killed it"), "{everything}");
    // A kill by hand is reported as such, although the kernel has killed a gateway before.
    container.sh("printf '#!/bin/sh\\nexec sleep 1000\\n' > /run/service/gateway-hungry/run");
    svc(&container, &["-wu", "-o"]);
    let pid = container.pid("gateway-hungry");
    container.sh(&format!("kill -9 {pid}"));
    container.waits("-D", "gateway-hungry");
    let said = status(&container);
    assert!(said.contains("SIGKILL") && !said.contains("out of memory"), "{said}");
}
