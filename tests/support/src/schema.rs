//! Frames against `docs/asyncapi.json`: the part of JSON Schema that it uses, and nothing else.

use serde_json::{Map, Value};

/// The description of the stream.
pub struct Schemas(Value);

impl Schemas {
    pub fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/asyncapi.json");
        let text = std::fs::read_to_string(path).expect("docs/asyncapi.json");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    /// Names of all messages.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.0["components"]["messages"].as_object().expect("messages").keys().map(String::as_str)
    }

    pub fn root(&self) -> &Value {
        &self.0
    }

    /// Panics unless the frame is as its `type` is described.
    pub fn assert_frame(&self, frame: &Value) {
        let name = frame["type"].as_str().unwrap_or_else(|| panic!("a frame without a type: {frame}"));
        let schema = &self.0["components"]["messages"][name]["payload"];
        assert!(schema.is_object(), "no message is called {name:?}");
        let mut faults = Vec::new();
        self.check(schema, frame, name, &mut faults);
        assert!(faults.is_empty(), "{frame} is not as described: {faults:#?}");
    }

    fn check(&self, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let mut fault = |what: String| faults.push(format!("{place}: {what}"));
        for (keyword, wanted) in schema {
            let holds = match keyword.as_str() {
                "type" => match wanted {
                    Value::Array(several) => several.iter().any(|one| is(one, value)),
                    one => is(one, value),
                },
                "enum" => wanted.as_array().expect("a list").contains(value),
                "const" => wanted == value,
                "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().expect("a number")),
                "maxLength" => {
                    value.as_str().is_none_or(|text| text.chars().count() as u64 <= number(wanted))
                }
                "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= number(wanted)),
                "format" => value.as_str().is_none_or(|text| wanted == "date-time" && is_utc(text)),
                // Below, or for people.
                "required" | "properties" | "additionalProperties" | "items" | "description" => true,
                other => panic!("the schema at {place} uses {other:?}, which this test does not know"),
            };
            if !holds {
                fault(format!("{value} breaks {keyword} {wanted}"));
            }
        }
        if let Value::Array(items) = value
            && let Some(each) = schema.get("items")
        {
            items.iter().for_each(|item| self.check(each, item, &format!("{place}[]"), faults));
        }
        if let Value::Object(members) = value {
            self.check_members(schema, members, place, faults);
        }
    }

    fn check_members(
        &self,
        schema: &Map<String, Value>,
        members: &Map<String, Value>,
        place: &str,
        faults: &mut Vec<String>,
    ) {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !members.contains_key(name.as_str().expect("a name")) {
                faults.push(format!("{place}: {name} is missing"));
            }
        }
        for (name, member) in members {
            let place = format!("{place}.{name}");
            match (
                schema.get("properties").and_then(|known| known.get(name)),
                schema.get("additionalProperties"),
            ) {
                (Some(known), _) => self.check(known, member, &place, faults),
                (None, Some(Value::Bool(false))) => faults.push(format!("{place} is not described")),
                (None, Some(each @ Value::Object(_))) => self.check(each, member, &place, faults),
                (None, _) => {}
            }
        }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Map<String, Value> {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(path) => {
                let found = self.0.pointer(path.trim_start_matches('#'));
                self.resolve(found.unwrap_or_else(|| panic!("nothing is at {path}")))
            }
            None => schema.as_object().expect("a schema"),
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type is called {other:?}"),
    }
}

/// `2026-11-22T20:43:56.642Z`
fn is_utc(text: &str) -> bool {
    let shape: String = text.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    shape == "0000-00-00T00:00:00.000Z" || shape == "0000-00-00T00:00:00Z"
}

/// Panics unless the frame is as `docs/asyncapi.json` describes it. Every test client asks.
pub fn assert_frame(frame: &Value) {
    static SCHEMAS: std::sync::OnceLock<Schemas> = std::sync::OnceLock::new();
    SCHEMAS.get_or_init(Schemas::load).assert_frame(frame);
}
