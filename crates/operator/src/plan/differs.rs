//! Whether an object has everything that we want of it. An API server adds defaults, and others add
//! fields of their own. Neither is a difference.

use serde_json::{Map, Value};

/// Returns whether a part of `wanted` is missing in `live`, or has another value there.
pub fn differs(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().any(|(key, wanted)| key_differs(key, wanted, live))
        }
        (Value::Array(wanted), Value::Array(live)) => list_differs(wanted, live),
        (Value::String(wanted), Value::String(live)) => wanted != live && !is_same_quantity(wanted, live),
        _ => wanted != live,
    }
}

/// Compares two lists. If the items have names, an API server keeps its own order and puts new
/// items last.
fn list_differs(wanted: &[Value], live: &[Value]) -> bool {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    let of_same_name = |wanted: &Value| live.iter().find(|live| name(live) == name(wanted));
    let is_named = !wanted.is_empty() && wanted.iter().chain(live).all(|item| name(item).is_some());
    wanted.len() != live.len()
        || wanted.iter().zip(live).any(|(wanted, at_its_place)| {
            let live = if is_named { of_same_name(wanted) } else { Some(at_its_place) };
            live.is_none_or(|live| differs(wanted, live))
        })
}

/// Compares the values of a key. An API server leaves out empty values, so an empty value equals a
/// missing one.
fn key_differs(key: &str, wanted: &Value, live: &Map<String, Value>) -> bool {
    let is_empty = match wanted {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    // We own these maps as a whole, so a key that we no longer want must be removed.
    let is_closed = matches!(key, "requests" | "limits" | "nodeSelector" | "data" | "matchLabels");
    match live.get(key) {
        None => !is_empty,
        Some(live) if is_closed => {
            differs(wanted, live)
                || live.as_object().map(Map::len) != Some(wanted.as_object().map_or(0, Map::len))
        }
        Some(live) => differs(wanted, live),
    }
}

/// Returns whether two texts are the same quantity. An API server writes `1024Mi` as `1Gi`, and
/// `0.1` as `100m`.
fn is_same_quantity(one: &str, other: &str) -> bool {
    match (quantity(one), quantity(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// Returns a quantity in thousandths.
fn quantity(text: &str) -> Option<u128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000_u128.pow(2),
        "G" => 1000 * 1000_u128.pow(3),
        "T" => 1000 * 1000_u128.pow(4),
        "P" => 1000 * 1000_u128.pow(5),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        _ => return None,
    };
    if whole.is_empty() || part.len() > 3 {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    let product = digits.checked_mul(factor)?;
    product.is_multiple_of(scale).then(|| product / scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::differs;

    #[test]
    fn what_an_api_server_adds_is_no_difference() {
        let wanted = json!({"spec": {"replicas": 1, "list": [{"name": "a"}], "none": [], "map": {}}});
        let live = json!({"spec": {"replicas": 1, "list": [{"name": "a", "protocol": "TCP"}], "more": 2}});
        assert!(!differs(&wanted, &live));
    }

    #[test]
    fn the_order_of_what_has_names_is_no_difference() {
        let wanted = json!([{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]);
        let live = json!([{"name": "b", "value": "2"}, {"name": "a", "value": "1"}]);
        assert!(!differs(&wanted, &live));
        assert!(differs(&wanted, &json!([{"name": "b", "value": "1"}, {"name": "a", "value": "2"}])));
        assert!(differs(&json!(["a", "b"]), &json!(["b", "a"])));
    }

    #[test]
    fn what_is_missing_other_or_too_much_is_a_difference() {
        for (wanted, live) in [
            (json!({"a": 1}), json!({})),
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": [1]}), json!({"a": [1, 2]})),
            (json!({"a": "x"}), json!({"a": "y"})),
            (json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1Gi", "cpu": "1"}})),
            (json!({"limits": {}}), json!({"limits": {"cpu": "1"}})),
        ] {
            assert!(differs(&wanted, &live), "{wanted} and {live}");
        }
    }

    #[test]
    fn quantities_are_compared_by_what_they_mean() {
        for (wanted, live, same) in [
            ("1024Mi", "1Gi", true),
            ("0.1", "100m", true),
            ("1000m", "1", true),
            ("1.5Gi", "1536Mi", true),
            ("1G", "1Gi", false),
            ("1", "2", false),
            ("x", "y", false),
        ] {
            assert_eq!(!differs(&json!(wanted), &json!(live)), same, "{wanted} and {live}");
        }
    }
}
