//! *Lives here:* reading a yes or no from a configuration file of an agent, YAML or JSON, at a
//! bounded cost.
//!
//! *Does not live here:* which value is read (the agent definition), and from which file (`look`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::NonFiniteFloatPolicy;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::SettingAnswer;

/// The most bytes of a configuration file.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// The most levels of mappings and lists.
const MAX_DEPTH: usize = 64;
/// The most mappings, lists and values of a file, including those that an alias repeats.
const MAX_NODES: usize = 200_000;
/// Values that mean yes, in upper or lower case.
const YES: [&str; 4] = ["1", "true", "yes", "on"];
const NO: [&str; 4] = ["0", "false", "no", "off"];

/// The part of a value of a configuration file that a setting may need.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ConfigValue {
    Mapping(Vec<(String, Self)>),
    List,
    Flag(bool),
    Word(String),
    Null,
}

/// Reads a configuration file.
///
/// # Errors
/// What is wrong with it, on one line.
pub(super) fn read(bytes: &[u8]) -> Result<ConfigValue, String> {
    let text = str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Ok(ConfigValue::Null);
    }
    let options = serde_saphyr::options! {
        // The parsers of the agents do the same.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // An infinite number must not hide the other values.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        // `word_says` decides which words say yes: some that are booleans to YAML 1.1, such as `y`,
        // are words to the agents.
        strict_booleans: true,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
            max_alias_expansions_per_anchor: MAX_NODES,
        },
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 2,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let said = error.to_string();
        let line = said.lines().next().unwrap_or_default();
        format!("is not YAML that can be read: {}", gatevisor_wire::policy::one_line(line))
    })
}

/// Returns the answer of the value at `key`, which is a path of keys with dots.
pub(super) fn answer(root: &ConfigValue, key: &str) -> SettingAnswer {
    let mut value = root;
    for (depth, part) in key.split('.').enumerate() {
        value = match value {
            ConfigValue::Mapping(entries) => {
                // The last one of that name counts.
                let Some((_, found)) = entries.iter().rev().find(|(name, _)| name == part) else {
                    return SettingAnswer::Silent;
                };
                found
            }
            ConfigValue::Null => return SettingAnswer::Silent,
            // The agents treat a section that is not a mapping as missing.
            _ if depth > 0 => return SettingAnswer::Silent,
            _ => return SettingAnswer::Unknown("holds no mapping".to_owned()),
        };
    }
    match value {
        ConfigValue::Flag(flag) => SettingAnswer::Says(*flag),
        ConfigValue::Word(word) => word_says(word).unwrap_or_else(|| {
            let shown = gatevisor_wire::policy::one_line(word);
            SettingAnswer::Unknown(format!("says `{shown}` for {key}, which is neither yes nor no"))
        }),
        ConfigValue::Null => SettingAnswer::Silent,
        ConfigValue::Mapping(_) | ConfigValue::List => {
            SettingAnswer::Unknown(format!("has a mapping or a list for {key}"))
        }
    }
}

/// Returns the answer of a word; `None` if it is neither yes nor no.
pub(super) fn word_says(word: &str) -> Option<SettingAnswer> {
    let word = word.trim();
    let is_one_of = |words: [&str; 4]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    match (word.is_empty(), is_one_of(YES), is_one_of(NO)) {
        (true, ..) => Some(SettingAnswer::Silent),
        (_, true, _) => Some(SettingAnswer::Says(true)),
        (.., true) => Some(SettingAnswer::Says(false)),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = ConfigValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Word(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Word(number.to_string()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Word(number.to_string()))
    }

    fn visit_u128<E>(self, number: u128) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Word(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Word(number.to_string()))
    }

    fn visit_str<E>(self, word: &str) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Word(word.to_owned()))
    }

    fn visit_bytes<E>(self, _bytes: &[u8]) -> Result<ConfigValue, E> {
        Ok(ConfigValue::List)
    }

    fn visit_unit<E>(self) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Null)
    }

    fn visit_none<E>(self) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<ConfigValue, D::Error> {
        ConfigValue::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ConfigValue, A::Error> {
        // No setting is in a list.
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ConfigValue::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ConfigValue, A::Error> {
        let mut mapping = Vec::new();
        // A key may be a number or even a list. No setting is below such a key.
        while let Some((key, value)) = entries.next_entry::<ConfigValue, ConfigValue>()? {
            match key {
                ConfigValue::Word(name) => mapping.push((name, value)),
                ConfigValue::Flag(flag) => mapping.push((flag.to_string(), value)),
                ConfigValue::Mapping(_) | ConfigValue::List | ConfigValue::Null => {}
            }
        }
        Ok(ConfigValue::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "gateway.multiplex_profiles";

    fn says(text: &str, key: &str) -> SettingAnswer {
        match read(text.as_bytes()) {
            Ok(root) => answer(&root, key),
            Err(why) => SettingAnswer::Unknown(why),
        }
    }

    #[test]
    fn a_value_says_yes_or_no_as_the_agent_reads_it() {
        let (yes, no, silent) =
            (SettingAnswer::Says(true), SettingAnswer::Says(false), SettingAnswer::Silent);
        let table = [
            ("gateway:\n  multiplex_profiles: true\n", &yes),
            ("gateway: {multiplex_profiles: yes}\n", &yes),
            ("gateway:\n  multiplex_profiles: On # a comment\n", &yes),
            ("gateway:\n  multiplex_profiles: 'true'\n", &yes),
            ("gateway:\n  multiplex_profiles: 1\n", &yes),
            (r#"{"gateway": {"multiplex_profiles": true}}"#, &yes),
            ("x: &x {multiplex_profiles: true}\ngateway: *x\n", &yes),
            ("x: &x {multiplex_profiles: true}\ngateway:\n  <<: *x\n", &yes),
            ("gateway:\n  multiplex_profiles: false\n", &no),
            ("gateway:\n  multiplex_profiles: off\n", &no),
            ("gateway:\n  multiplex_profiles: 0\n", &no),
            // The last one counts.
            ("gateway:\n  multiplex_profiles: true\n  multiplex_profiles: false\n", &no),
            ("a: .inf\nb: [-.inf, .nan, 1e400]\ngateway: {multiplex_profiles: true}\n", &yes),
            ("gateway:\n  multiplex_profiles: No\n", &no),
            ("gateway:\n  multiplex_profiles:\n", &silent),
            ("gateway:\n  multiplex_profiles: ''\n", &silent),
            ("gateway:\n", &silent),
            ("gateway: [multiplex_profiles, true]\n", &silent),
            ("gateway: true\n", &silent),
            ("", &silent),
            ("\u{feff}# nothing\n", &silent),
            (
                "channels:\n  123: {a: b}\n  true: x\n? [1, 2]\n: y\ngateway: {multiplex_profiles: true}\n",
                &yes,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(says(text, KEY), *expected, "{text}");
        }
        assert_eq!(says("multiplex_profiles: yes\n", "multiplex_profiles"), yes);
    }

    #[test]
    fn what_cannot_be_understood_is_said_on_one_line() {
        let deep = "[".repeat(10_000);
        let blocks: Vec<String> = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        let blocks = blocks.concat();
        let many = "- x\n".repeat(MAX_BYTES / 4);
        let mut levels = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned()];
        for level in 1..30 {
            let before = format!("*a{}", level - 1);
            levels.push(format!("a{level}: &a{level} [{}]\n", [&*before; 10].join(", ")));
        }
        let bomb = levels.concat();
        for text in [
            "- a\n- list\n",
            "just words\n",
            "gateway: {multiplex_profiles: [true]}\n",
            "gateway: {multiplex_profiles: perhaps}\n",
            "gateway:\n  multiplex_profiles: y\n",
            "gateway:\n  multiplex_profiles: .inf\n",
            "gateway: {multiplex_profiles: true\n",
            "a: b: c: d\n",
            "\t- x",
            "a: *nothing\n",
            "--- 1\n--- 2\n",
            "%YAML 9.9\n---\n]",
            &deep,
            &blocks,
            &many,
            &bomb,
        ] {
            let shown: String = text.chars().take(60).collect();
            let SettingAnswer::Unknown(why) = says(text, KEY) else { panic!("{shown}") };
            assert!(!why.is_empty() && !why.contains('\n') && why.len() < 1000, "{shown}: {why}");
        }
        assert!(read(b"\xff").is_err());
    }
}
