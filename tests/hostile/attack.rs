//! One attack: what is prepared, what the attacker does, what the supervisor's user does meanwhile.

/// An attack, in the words of a shell. `bed.rs` lists the variables and functions that the words may use.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its stable name, by which docs/attacks.md knows it.
    pub name: &'static str,
    /// What root puts there first that the attacker could not: what a kernel with fewer protections lets him make.
    pub planted: &'static str,
    /// What the attacker does. It must succeed; what comes of it is for the checks to say.
    pub does: &'static str,
    /// What the supervisor's user does then, or meanwhile. It must succeed.
    pub then: &'static str,
    /// What root finds true at the very end. It must succeed; empty where the usual checks say everything.
    pub holds: &'static str,
    /// Words of bash that run before a cell's root directory changes, as an operator's options of `docker run`.
    pub mounts: &'static str,
    /// What the attacker does during the next boot, from another container that has the volume: its place is `H` there.
    pub meanwhile: &'static str,
    /// Variables of a cell, `NAME=value` with blanks between.
    pub variables: &'static str,
    /// The attacker goes on while the supervisor's user acts.
    pub is_race: bool,
    /// Only where the attacker's slots are served: the supervisor is root.
    pub needs_root: bool,
    /// Only in a container.
    pub needs_container: bool,
}

/// Returns an attack of this name that consists of these words of the attacker.
pub const fn attack(name: &'static str, does: &'static str) -> Attack {
    Attack {
        name,
        planted: "",
        does,
        then: "",
        holds: "",
        mounts: "",
        meanwhile: "",
        variables: "",
        is_race: false,
        needs_root: false,
        needs_container: false,
    }
}

impl Attack {
    pub const fn planted(mut self, words: &'static str) -> Self {
        self.planted = words;
        self
    }

    /// What the supervisor's user does after the attack.
    pub const fn then(mut self, words: &'static str) -> Self {
        self.then = words;
        self
    }

    /// What the supervisor's user does during the attack, which is told to stop afterwards.
    pub const fn while_root(mut self, words: &'static str) -> Self {
        self.then = words;
        self.is_race = true;
        self
    }

    /// What root finds true at the very end.
    pub const fn holds(mut self, words: &'static str) -> Self {
        self.holds = words;
        self
    }

    /// What is mounted into the cell of this attack.
    pub const fn mounted(mut self, words: &'static str) -> Self {
        self.mounts = words;
        self
    }

    /// What the attacker does during the next boot.
    pub const fn meanwhile(mut self, words: &'static str) -> Self {
        self.meanwhile = words;
        self
    }

    /// What the environment of the cell of this attack says.
    pub const fn with(mut self, variables: &'static str) -> Self {
        self.variables = variables;
        self
    }

    pub const fn of_the_served(mut self) -> Self {
        self.needs_root = true;
        self
    }

    pub const fn in_a_container(mut self) -> Self {
        self.needs_container = true;
        self
    }
}
