//! One attack: what is prepared, what the attacker does, and what the supervisor's user does
//! meanwhile.

/// An attack, as scripts of a shell. `bed.rs` lists the variables and functions that the scripts
/// may use.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its stable name, which docs/design/attacks.md lists.
    pub name: &'static str,
    /// What root prepares because the attacker cannot: things that a kernel with fewer protections
    /// would let the attacker make.
    pub planted: &'static str,
    /// What the attacker does. It must succeed; the checks judge the effect.
    pub does: &'static str,
    /// What the supervisor's user does afterwards, or meanwhile. It must succeed.
    pub then: &'static str,
    /// What root checks at the very end. It must succeed. It is empty if the usual checks are
    /// enough.
    pub holds: &'static str,
    /// A script of bash that runs before a cell's root directory changes, in the place of an
    /// operator's options of `docker run`.
    pub mounts: &'static str,
    /// What the attacker does during the next boot, from another container that has the volume,
    /// which is `H` there.
    pub meanwhile: &'static str,
    /// Variables of a cell, as `NAME=value`, separated by spaces.
    pub variables: &'static str,
    /// The attacker goes on while the supervisor's user acts.
    pub is_race: bool,
    /// Only for beds whose supervisor is root, and so serves the attacker's slots.
    pub needs_root: bool,
    /// Only for beds that are containers.
    pub needs_container: bool,
}

/// Returns an attack of this name that consists of this script of the attacker.
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

    /// What the supervisor's user does during the attack, which is stopped afterwards.
    pub const fn while_root(mut self, words: &'static str) -> Self {
        self.then = words;
        self.is_race = true;
        self
    }

    /// What root checks at the very end.
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

    /// Variables in the environment of this attack's cell.
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
