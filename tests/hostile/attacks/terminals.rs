//! What the agent does with the terminal of root, who runs it. Each attack has a new cell.

use crate::attack::{Attack, attack};

/// Puts the attacker's script in the place of the agent's own program, as a plugin could.
macro_rules! agent_runs {
    ($words:literal) => {
        concat!(
            "printf '#!/bin/sh\\nexec /usr/bin/python3 /srv/bed/attacker.py ",
            $words,
            "\\n' > /opt/hermes/.venv/bin/hermes; chmod 755 /opt/hermes/.venv/bin/hermes"
        )
    };
}

/// A profile that has been up.
macro_rules! profile {
    ($words:literal) => {
        concat!(
            "cd \"$H\"; mkdir -p profiles/coder logs/gateways/coder; echo > profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > profiles/coder/gateway_state.json; ",
            $words
        )
    };
}

pub const ALL: &[Attack] = &[
    // The terminal of root.
    attack("root-calls-the-agent-which-types-into-the-shell", "true")
        .planted(agent_runs!("types /srv/bed/typed"))
        .then("py terminal 20 'hermes chat' '' && test ! -e /srv/bed/typed"),
    attack("root-calls-the-agent-whose-child-types-later", "true")
        .planted(agent_runs!("types_later /srv/bed/typed"))
        .then("py terminal 20 'hermes chat' 'echo one' && test ! -e /srv/bed/typed"),
    attack("root-calls-the-agent-whose-child-reads-what-root-types", "true")
        .planted(agent_runs!("reads /srv/attacker/keys"))
        .then("py terminal 20 'hermes chat' 'echo password-of-root' && ! grep -q password-of-root /srv/attacker/keys"),
    attack("root-calls-the-agent-which-opens-the-terminal-by-name", "true")
        .planted(agent_runs!("opens_terminals /srv/bed/typed"))
        .then("py terminal 20 'hermes chat' 'echo one' && test ! -e /srv/bed/typed"),
    attack("root-calls-the-agent-with-descriptors-open", "true")
        .planted(agent_runs!("inherits /srv/attacker/leak"))
        .then("py terminal 20 'exec 9<\"$V/secret\" 8>>\"$V/readable\" 7<\"$V/closed\"; hermes chat' ''"),
    attack("root-calls-the-agent-which-puts-the-terminal-into-disorder", "true")
        .planted(agent_runs!("disorders"))
        .then("py terminal 20 'hermes chat; stty -a | grep -q \" icanon\" && stty -a | grep -q \" echo \" && echo in-order' '' | grep -q in-order"),
    attack("root-calls-the-agent-which-stops-and-goes-to-the-background", "true")
        .planted(agent_runs!("stops"))
        .then("py terminal 20 'hermes chat; echo back' '' | grep -q back"),
    attack("verbs-of-root-are-looked-into", profile!("(py peek_named gatevisor 6 \"$T/leak\" >/dev/null 2>&1 &) "))
        .then("for n in 1 2 3 4 5 6; do \"$G\" status >/dev/null; \"$G\" gateway status coder >/dev/null 2>&1 || :; \"$G\" profile list >/dev/null; done"),
];
