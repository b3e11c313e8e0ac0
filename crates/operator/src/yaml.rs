//! Writing objects as YAML, for people to read before they apply them.

use serde_json::Value;

/// Returns documents, each after a line `---`.
pub fn documents(objects: &[Value]) -> String {
    let mut out = String::new();
    for object in objects {
        out.push_str("---\n");
        block(object, 0, &mut out);
    }
    out
}

/// Writes a map or a list, one entry a line, indented by `depth` steps.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&indent);
                entry(&scalar(key), value, depth, out);
            }
        }
        Value::Array(list) => {
            for item in list {
                out.push_str(&indent);
                item_of_list(item, depth, out);
            }
        }
        _ => {}
    }
}

fn entry(key: &str, value: &Value, depth: usize, out: &mut String) {
    out.push_str(key);
    out.push(':');
    if is_block(value) {
        out.push('\n');
        block(value, depth + 1, out);
    } else {
        out.push(' ');
        out.push_str(&flow(value));
        out.push('\n');
    }
}

/// Writes the first entry of a map in a list, which stands behind the hyphen.
fn item_of_list(item: &Value, depth: usize, out: &mut String) {
    out.push_str("- ");
    if !is_block(item) {
        out.push_str(&flow(item));
        out.push('\n');
        return;
    }
    let mut inner = String::new();
    block(item, depth + 1, &mut inner);
    out.push_str(inner.trim_start_matches(' '));
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => list.iter().any(|item| item.is_object() || item.is_array()),
        _ => false,
    }
}

/// Returns a value that fits on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Returns a text, in quotes unless YAML can only read it as this text.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./$".contains(c))
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&&*text.to_lowercase());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::documents;

    #[test]
    fn maps_lists_and_texts_are_written_as_people_write_them() {
        let object = json!({
            "kind": "List", "empty": {}, "none": [], "words": ["get", "*"], "yes": "no", "number": 1,
            "items": [{"name": "a", "deep": {"b": [{"c": true}]}}, "x: y"],
        });
        assert_eq!(
            documents(&[object]),
            "---\nkind: List\nempty: {}\nnone: []\nwords: [get, \"*\"]\n\"yes\": \"no\"\nnumber: 1\nitems:\n  \
             - name: a\n    deep:\n      b:\n        - c: true\n  - \"x: y\"\n"
        );
    }
}
