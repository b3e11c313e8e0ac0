//! Decides which lines an action gets.
//!
//! *Lives here:* deciding, from a line only.
//! *Does not live here:* the actions.

use super::parser::{ScriptStep, Selection};

/// The state of a line within a script.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineSelection {
    selected: bool,
    acted: bool,
}

impl LineSelection {
    pub(super) const START: Self = Self { selected: true, acted: false };

    /// Applies the selections of a step to the line, and returns whether the step's actions get it.
    pub(super) fn enters(&mut self, step: &ScriptStep, line: &[u8]) -> bool {
        for selection in &step.selections {
            match selection {
                Selection::Unacted => self.selected = !self.acted,
                Selection::Select(pattern) => self.selected = self.selected || pattern.matches(line),
                Selection::Deselect(pattern) => self.selected = self.selected && !pattern.matches(line),
            }
        }
        self.acted |= self.selected;
        self.selected
    }
}

#[cfg(test)]
mod tests {
    use super::LineSelection;
    use crate::script::parse;

    fn steps_of(script: &str, line: &[u8]) -> Vec<usize> {
        let words: Vec<&[u8]> = script.split(' ').map(str::as_bytes).collect();
        let script = parse(&words).unwrap();
        let mut standing = LineSelection::START;
        let entered = script.steps.iter().enumerate().filter(|(_, step)| standing.enters(step, line));
        entered.map(|(at, _)| at).collect()
    }

    #[test]
    fn lines_go_where_the_selection_stands() {
        assert_eq!(steps_of("1", b"x"), [0]);
        assert_eq!(steps_of("- +fatal: 2 - +^STAT =s f ./d", b"fatal: x"), [0]);
        assert_eq!(steps_of("- +fatal: 2 - +^STAT =s f ./d", b"STAT x"), [1]);
        assert_eq!(steps_of("- +fatal: 2 - +^STAT =s f ./d", b"else"), [2]);
        assert_eq!(steps_of("-a 1 +b 1", b"ab"), [1]);
        assert_eq!(steps_of("-a 1 +b 1", b"a"), Vec::<usize>::new());
    }
}
