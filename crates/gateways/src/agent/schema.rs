//! *Lives here:* the JSON schema of an agent definition, made from the types that read it, and
//! finding the way in it.
//!
//! *Does not live here:* the types; what is wrong with a definition (`examine`).

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::AgentDefinition;

/// Where the schema has the types that it refers to.
const DEFINITIONS: &str = "#/definitions/";
/// The key of a property's former names.
pub(super) const FORMER_NAMES: &str = "x-former-names";

/// Returns the schema of an agent definition.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<AgentDefinition>().to_value();
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), "Agent definition of Gatevisor".into());
    }
    simplify(&mut schema);
    schema
}

/// Takes out that a value may be null, which no TOML is, and makes each description one line.
fn simplify(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            without_null(object);
            object.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

fn without_null(object: &mut Map<String, Value>) {
    if object.get("default").is_some_and(Value::is_null) {
        object.shift_remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|word| word != "null");
        if let [only] = &**types {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|word| word != "null"));
    if choices.len() == 1
        && let Some(only) = object.shift_remove("anyOf")
    {
        object.insert("allOf".to_owned(), only);
    }
}

/// A place in the schema, with the whole schema for the references in it.
#[derive(Clone, Copy)]
pub(super) struct SchemaPart<'a> {
    root: &'a Value,
    part: &'a Value,
}

impl<'a> SchemaPart<'a> {
    /// Returns the whole schema.
    pub(super) const fn whole(root: &'a Value) -> Self {
        Self { root, part: root }
    }

    /// Returns the whole schema that this is a part of.
    pub(super) const fn top(self) -> Self {
        self.at(self.root)
    }

    const fn at(self, part: &'a Value) -> Self {
        Self { root: self.root, part }
    }

    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        self.part.get(key)
    }

    /// Returns what a value here may be: the parts that are no references and no lists of others.
    pub(super) fn choices(self) -> Vec<Self> {
        if let Some(name) = self.get("$ref").and_then(Value::as_str) {
            let found =
                name.strip_prefix(DEFINITIONS).and_then(|name| self.root.get("definitions")?.get(name));
            return found.map_or_else(Vec::new, |part| self.at(part).choices());
        }
        let mut lists = ["allOf", "anyOf", "oneOf"].into_iter();
        match lists.find_map(|key| self.get(key)?.as_array()) {
            Some(parts) => parts.iter().flat_map(|part| self.at(part).choices()).collect(),
            None => vec![self],
        }
    }

    /// Returns the part for a key of a table, by its name or a former one.
    pub(super) fn property(self, name: &str) -> Option<Self> {
        let properties = self.properties()?;
        let former = |part: &&Value| {
            part.get(FORMER_NAMES).and_then(Value::as_array).is_some_and(|names| names.contains(&name.into()))
        };
        properties.get(name).or_else(|| properties.values().find(former)).map(|part| self.at(part))
    }

    /// Returns the names of the keys of a table.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.properties().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Returns the part for the values of a table whose keys are free; nothing where they are not.
    pub(super) fn of_any_key(self) -> Option<Self> {
        self.get("additionalProperties").filter(|part| part.is_object()).map(|part| self.at(part))
    }

    /// Returns the part for the items of a list.
    pub(super) fn items(self) -> Option<Self> {
        self.get("items").map(|part| self.at(part))
    }

    fn properties(self) -> Option<&'a Map<String, Value>> {
        self.get("properties")?.as_object()
    }

    /// Returns the tables that have a key of this name, each as its path in a definition.
    pub(super) fn places(self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_places(name, "", &mut found);
        found
    }

    fn collect_places(self, name: &str, path: &str, found: &mut Vec<String>) {
        for table in self.choices() {
            if !path.is_empty() && table.property(name).is_some() {
                found.push(path.to_owned());
            }
            for key in table.names() {
                let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                if let Some(part) = table.property(key) {
                    part.collect_places(name, &below, found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a schema without its explanations, which are the comments of the types.
    fn bare(mut part: Value) -> Value {
        match &mut part {
            Value::Object(object) => {
                if object.get("description").is_some_and(Value::is_string) {
                    object.shift_remove("description");
                }
                object.values_mut().for_each(|value| *value = bare(value.take()));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| *item = bare(item.take())),
            _ => {}
        }
        part
    }

    #[test]
    fn the_document_has_the_schema_of_the_types() {
        let text = include_str!("../../../../docs/reference/agent.schema.json");
        let how = "`gatevisor agents schema > docs/reference/agent.schema.json` writes it";
        let same = serde_json::from_str::<Value>(text).is_ok_and(|known| bare(known) == bare(schema()));
        assert!(same, "docs/reference/agent.schema.json is older than the types: {how}");
    }

    #[test]
    fn every_key_of_the_schema_is_explained() {
        fn check(part: &Value, path: &str) {
            for (name, property) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let description = property.get("description").and_then(Value::as_str);
                assert!(description.is_some_and(|text| !text.is_empty()), "{path}.{name}");
            }
        }
        let schema = schema();
        check(&schema, "");
        for (name, part) in schema["definitions"].as_object().unwrap() {
            check(part, name);
        }
        assert!(!schema.to_string().contains("null"), "no TOML is null");
    }

    #[test]
    fn the_place_of_a_key_is_found() {
        let schema = schema();
        let whole = SchemaPart::whole(&schema);
        assert_eq!(whole.places("log-directory"), ["gateway"]);
        assert_eq!(whole.places("marker").first().map(String::as_str), Some("profile"));
        assert_eq!(whole.places("colour"), Vec::<String>::new());
    }
}
