//! JSON with one reading (RFC 8259, I-JSON): duplicate names and over-deep nesting are errors. For requests and for
//! judging single resources; answers go through [`crate::engine`], which keeps every byte.

use core::fmt;

use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Deeper than any FHIR resource.
const MAX_DEPTH: u16 = 64;

/// Refusal of a text that is not JSON, or is JSON with two readings. It does not carry the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous(());

impl Ambiguous {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for Ambiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not JSON with exactly one reading")
    }
}

impl core::error::Error for Ambiguous {}

/// Reads a whole text into a tree.
pub fn parse(text: &[u8]) -> Result<Value, Ambiguous> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value =
        serde::de::DeserializeSeed::deserialize(Strict { depth: MAX_DEPTH }, &mut reader).map_err(|_| Ambiguous(()))?;
    reader.end().map_err(|_| Ambiguous(()))?;
    Ok(value)
}

/// Reads the top level of an object, leaving each member's text as it stands: decimals keep their precision.
pub fn members(text: &[u8]) -> Result<Vec<(String, Box<RawValue>)>, Ambiguous> {
    parse(text)?;
    let mut reader = serde_json::Deserializer::from_slice(text);
    serde::de::Deserializer::deserialize_map(&mut reader, Members).map_err(|_| Ambiguous(()))
}

/// Reads the items of an array, each as its text.
pub fn items(text: &[u8]) -> Result<Vec<Box<RawValue>>, Ambiguous> {
    parse(text)?;
    serde_json::from_slice(text).map_err(|_| Ambiguous(()))
}

/// Writes an object from members.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("{");
    for (name, text) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&Value::from(name).to_string());
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
    out
}

struct Strict {
    depth: u16,
}

impl<'de> serde::de::DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> serde::de::Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Self { depth: inner.depth })? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut out = Map::new();
        while let Some(name) = items.next_key::<String>()? {
            let value = items.next_value_seed(Self { depth: inner.depth })?;
            if out.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("duplicate name"));
            }
        }
        Ok(Value::Object(out))
    }
}

struct Members;

impl<'de> serde::de::Visitor<'de> for Members {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut out = Vec::new();
        while let Some(member) = items.next_entry()? {
            out.push(member);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_with_two_readings_is_refused() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        for wrong in [
            "",
            "{",
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":1} x"#,
            "\u{feff}{}",
            "[1,]",
            "NaN",
            "1e999",
            &deep,
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        assert_eq!(parse(br#"{"a":[1,{"a":null}]}"#).unwrap(), serde_json::json!({"a": [1, {"a": null}]}));
        // the same name, spelt with an escape
        assert!(parse(br#"{"a":1,"\u0061":2}"#).is_err());
    }

    #[test]
    fn members_keep_their_text() {
        let members = members(br#"{"value": 1.10, "x": {"y" : 2}}"#).unwrap();
        let text = object(members.iter().map(|(name, raw)| (name.as_str(), raw.get())));
        assert_eq!(text, r#"{"value":1.10,"x":{"y" : 2}}"#);
    }
}
