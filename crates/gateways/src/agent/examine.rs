//! *Lives here:* finding all errors in the text of an agent definition, with their places.
//!
//! *Does not live here:* the types, whose schema is used (`schema`), and the rules for values
//! (`check`).

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{SchemaPart, schema};
use super::{AgentDefinition, check};
use crate::misspelling::nearest;

/// An error in a definition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DefinitionProblem {
    /// The number of the line, beginning with 1.
    pub line: usize,
    /// The number of the character in that line, beginning with 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl std::fmt::Display for DefinitionProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

/// Returns all errors in a text, in their order. If it is not TOML, these are the errors of the
/// syntax; otherwise those of the types; otherwise those of the values.
pub fn examine(text: &str) -> Vec<DefinitionProblem> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut found = Findings { text, problems: Vec::new() };
    for error in &errors {
        found.add(error.span(), one_line(error.message()));
    }
    // Further errors on a line are mostly consequences of the first one.
    found.problems.sort_by_key(|problem| (problem.line, problem.column));
    found.problems.dedup_by_key(|problem| problem.line);
    if found.problems.is_empty() {
        let schema = schema();
        let value = Spanned::new(root.span(), DeValue::Table(root.get_ref().clone()));
        found.value(SchemaPart::whole(&schema), &value, "");
    }
    if found.problems.is_empty() {
        found.deeper(root.get_ref());
    }
    let mut problems = found.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

struct Findings<'a> {
    text: &'a str,
    problems: Vec<DefinitionProblem>,
}

impl Findings<'_> {
    fn add(&mut self, span: Option<Range<usize>>, what: String) {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
        self.problems.push(DefinitionProblem { line, column, what });
    }

    /// Compares a value with the schema.
    fn value(&mut self, part: SchemaPart<'_>, value: &Spanned<DeValue<'_>>, path: &str) {
        let choices = part.choices();
        let words: Vec<&str> = choices.iter().filter_map(|choice| choice.get("const")?.as_str()).collect();
        if !words.is_empty() && words.len() == choices.len() {
            return self.word(&words, value, path);
        }
        let Some(fitting) = choices.iter().find(|choice| fits(**choice, value.get_ref())) else {
            let kinds: Vec<&str> = choices.iter().map(|choice| kind_of(*choice)).collect();
            let what = format!("`{path}` is {}, and this is {}", kinds.join(" or "), kind(value.get_ref()));
            return self.add(Some(value.span()), what);
        };
        match value.get_ref() {
            DeValue::Table(table) => self.table(*fitting, table, value.span(), path),
            DeValue::Array(items) => {
                if let Some(part) = fitting.items() {
                    items.iter().for_each(|item| self.value(part, item, path));
                }
            }
            DeValue::Integer(number) => self.number(*fitting, number.as_str(), value.span(), path),
            _ => {}
        }
    }

    fn word(&mut self, words: &[&str], value: &Spanned<DeValue<'_>>, path: &str) {
        let said = value.get_ref().as_str();
        if said.is_some_and(|said| words.contains(&said)) {
            return;
        }
        let shown = said.map_or_else(|| kind(value.get_ref()).to_owned(), |said| format!("`{said}`"));
        let known: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let what = format!("`{path}` is one of {}, and this is {shown}", known.join(", "));
        self.add(Some(value.span()), what);
    }

    fn number(&mut self, part: SchemaPart<'_>, digits: &str, span: Range<usize>, path: &str) {
        let bound = |key: &str| part.get(key).and_then(Value::as_i64);
        let Ok(number) = digits.replace('_', "").parse::<i64>() else { return };
        let is_low = bound("minimum").is_some_and(|least| number < least);
        if is_low || bound("maximum").is_some_and(|most| number > most) {
            let least = bound("minimum").unwrap_or(i64::MIN);
            let most = bound("maximum").map_or_else(|| "on".to_owned(), |most| format!("to {most}"));
            self.add(Some(span), format!("`{path}` is a number from {least} {most}"));
        }
    }

    fn table(&mut self, part: SchemaPart<'_>, table: &DeTable<'_>, span: Range<usize>, path: &str) {
        let mut meant = Vec::new();
        for (key, value) in table {
            let name = key.get_ref();
            let below = joined(path, name);
            match part.property(name).or_else(|| part.of_any_key()) {
                Some(part) => self.value(part, value, &below),
                None if part.get("additionalProperties") == Some(&Value::Bool(false)) => {
                    let near = nearest(name, part.names());
                    meant.extend(near);
                    self.add(Some(key.span()), unknown(part, name, path, near));
                }
                None => {}
            }
        }
        let required = part.get("required").and_then(Value::as_array).into_iter().flatten();
        let missing = required.filter_map(Value::as_str).filter(|name| !table.contains_key(*name));
        for name in missing.filter(|name| !meant.contains(name)) {
            self.add(Some(span.clone()), format!("`{}` is missing", joined(path, name)));
        }
    }

    /// Finds errors that the types alone do not show.
    fn deeper(&mut self, root: &DeTable<'_>) {
        match toml::from_str::<AgentDefinition>(self.text) {
            Err(error) => self.add(error.span(), one_line(error.message())),
            Ok(definition) => {
                for fault in check::faults(&definition.completed()) {
                    let place = locate(root, fault.field, &fault.why);
                    self.add(place, format!("`{}`: {}", fault.field, fault.why));
                }
            }
        }
    }
}

/// Returns the message about a key that a table does not have.
fn unknown(part: SchemaPart<'_>, name: &str, path: &str, near: Option<&str>) -> String {
    let place = if path.is_empty() { "at the top".to_owned() } else { format!("in `{path}`") };
    let unknown = format!("there is no key `{}` {place}", one_line(name));
    if let Some(near) = near {
        return format!("{unknown}; do you mean `{near}`?");
    }
    if let [first, ..] = &*part.top().places(name) {
        return format!("{unknown}; it belongs to `{first}`");
    }
    let known: Vec<&str> = part.names().collect();
    format!("{unknown}; these are known: {}", known.join(", "))
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { one_line(name) } else { format!("{path}.{}", one_line(name)) }
}

fn one_line(text: &str) -> String {
    gatevisor_wire::policy::one_line(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn fits(part: SchemaPart<'_>, value: &DeValue<'_>) -> bool {
    let Some(word) = part.get("type") else { return true };
    let is = |word: &str| match word {
        "string" => value.is_str(),
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        "boolean" => value.is_bool(),
        "array" => value.is_array(),
        "object" => value.is_table(),
        _ => false,
    };
    match word {
        Value::String(word) => is(word),
        Value::Array(words) => words.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Returns the kind of value that a part of the schema is for, in words.
fn kind_of(part: SchemaPart<'_>) -> &'static str {
    match part.get("type").and_then(Value::as_str) {
        Some("string") => "a text",
        Some("integer" | "number") => "a number",
        Some("boolean") => "`true` or `false`",
        Some("array") => "a list",
        _ => "a table",
    }
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Returns the place of an error. If the value is a list, it is the item with the word that the
/// reason mentions. If a key is missing, it is the table that lacks it.
fn locate(root: &DeTable<'_>, field: &str, why: &str) -> Option<Range<usize>> {
    let word = why.split('`').nth(1).unwrap_or_default();
    let mut here: Vec<(Range<usize>, &DeValue<'_>)> = Vec::new();
    for (depth, part) in field.split('.').enumerate() {
        let below: Vec<_> = if depth == 0 {
            root.get(part).into_iter().collect()
        } else {
            here.iter().flat_map(|(_, value)| entries(value, part)).collect()
        };
        if below.is_empty() {
            break;
        }
        here = below.into_iter().map(|value| (value.span(), value.get_ref())).collect();
    }
    let named = here.iter().find_map(|(_, value)| mention(value, word));
    named.or_else(|| here.into_iter().next().map(|(span, _)| span))
}

/// Returns the values of a key, in a table or in each table of a list.
fn entries<'a, 'b>(value: &'a DeValue<'b>, key: &str) -> Vec<&'a Spanned<DeValue<'b>>> {
    match value {
        DeValue::Table(table) => table.get(key).into_iter().collect(),
        DeValue::Array(items) => items.iter().flat_map(|item| entries(item.get_ref(), key)).collect(),
        _ => Vec::new(),
    }
}

/// Returns where a value has a word, as a text or as a key.
fn mention(value: &DeValue<'_>, word: &str) -> Option<Range<usize>> {
    let inside = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) if text == word => Some(value.span()),
        other => mention(other, word),
    };
    match value {
        DeValue::Table(table) => table
            .iter()
            .find_map(|(key, value)| if key.get_ref() == word { Some(key.span()) } else { inside(value) }),
        DeValue::Array(items) => items.iter().find_map(inside),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::SMALL;
    use insta::assert_snapshot;

    fn said(text: &str) -> String {
        examine(text).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_definition_that_is_right_has_no_problem() {
        for (_, text) in crate::agent::BUILT_INS {
            assert_eq!(said(text), "");
        }
        assert_eq!(said(SMALL), "");
        assert_eq!(said(&format!("{SMALL}[container]\nlegacy-command = [\"run\"]\n")), "");
    }

    #[test]
    fn all_problems_of_one_kind_are_found_at_once_each_with_its_place() {
        assert_snapshot!(said("a = \nb = [1\nc = 'x\n"), @r"
        line 1, column 5: string values must be quoted, expected literal string
        line 3, column 1: missing comma between array elements, expected `,`
        ");
        let text = "nome = \"x\"\nuser = 7\n[profile]\nmarker = \"m\"\ndirectories = [\"a\", 1]\n\
                    [gateway]\ncomand-default = [\"a\"]\ncommand-named = []\nstate-file = \"s\"\n\
                    fail-codes = [1, 300, -1]\nsurvivors = \"kil\"\nmarker = 1\n\
                    live = { polixy = \"off\" }\n[[topology.rules]]\nthen = \"me\"\nwhen = 1\n";
        assert_snapshot!(said(text), @r"
        line 1, column 1: there is no key `nome` at the top; do you mean `name`?
        line 2, column 8: `user` is a text, and this is a number
        line 5, column 21: `profile.directories` is a text, and this is a number
        line 6, column 1: `gateway.log-directory` is missing
        line 6, column 1: `gateway.boot-log` is missing
        line 7, column 1: there is no key `comand-default` in `gateway`; do you mean `command-default`?
        line 10, column 18: `gateway.fail-codes` is a number from 0 to 255
        line 10, column 23: `gateway.fail-codes` is a number from 0 to 255
        line 11, column 13: `gateway.survivors` is one of `keep`, `kill`, and this is `kil`
        line 12, column 1: there is no key `marker` in `gateway`; it belongs to `profile`
        line 13, column 10: there is no key `polixy` in `gateway.live`; do you mean `policy`?
        line 15, column 8: `topology.rules.then` is one of `own`, `server`, `nobody`, and this is `me`
        line 16, column 8: `topology.rules.when` is a list, and this is a number
        ");
        let unknown = said(&format!("colour = \"red\"\n{SMALL}"));
        assert!(
            unknown
                .starts_with("line 1, column 1: there is no key `colour` at the top; these are known: name,"),
            "{unknown}"
        );
    }

    #[test]
    fn values_that_break_a_rule_are_found_at_once_too() {
        let text = SMALL.replace("my-agent", "My Agent").replace("state.json", "../state.json");
        let text = format!(
            "{text}exit-meanings = {{ 7 = \"x\", seven = \"y\" }}\n[doctor]\nexclusive = [\"A_B\", \"A-B\"]\n\
             [topology]\npark = \"a/b\"\n[[topology.rules]]\nthen = \"own\"\nversions = \"x\"\n"
        );
        assert_snapshot!(said(&text), @"line 18, column 12: `x` is no range of versions; write `>=0.21`, `<0.21`, or both with a comma between them");
        assert_snapshot!(said(&text.replace("versions = \"x\"\n", "")), @r"
        line 2, column 8: `name`: use a-z, 0-9 and `-`, begin with a letter, 32 characters at the most
        line 8, column 14: `gateway.state-file`: `../state.json` is not a plain file name of at most 200 bytes
        line 11, column 28: `gateway.exit-meanings`: `seven` is not an exit code
        line 13, column 21: `doctor.exclusive`: `A-B` is not the name of an environment variable
        line 15, column 8: `topology.park`: `a/b` is not a plain file name of at most 200 bytes
        ");
    }

    proptest::proptest! {
        #[test]
        fn invariant_what_is_examined_without_a_problem_can_be_read(text in "[a-z\\[\\]={}\"'. \n0-9-]{0,80}") {
            let text = format!("{SMALL}{text}");
            let is_read = AgentDefinition::parse(&text, "x").is_ok();
            assert_eq!(examine(&text).is_empty(), is_read, "{text}");
        }
    }
}
