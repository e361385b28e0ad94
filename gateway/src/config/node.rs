//! A YAML document as a tree whose every value knows its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Spanned};

/// A value and the line it starts on.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: u64,
}

/// What YAML can say. No setting is a fraction, so a fraction needs no value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping; repeated keys are kept, so that they can be reported.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u64,
    pub(crate) node: Node,
}

impl Value {
    /// What this is, for a message.
    pub(crate) const fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads one YAML document. Gives the line and a one-line message of what is not YAML.
pub(crate) fn parse(text: &str) -> Result<Node, (Option<u64>, String)> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        with_snippet: false,
        // YAML 1.1's `yes`, `no`, `on`: no switch here is thrown by the country code of Norway.
        strict_booleans: true,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options) {
        Ok(spanned) => Ok(node(spanned)),
        Err(error) => {
            let message = error.without_snippet().to_string();
            Err((error.location().map(|at| at.line()), message.lines().next().unwrap_or_default().to_owned()))
        }
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { line: spanned.referenced.line(), value: spanned.value }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Float)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            map.push(Entry { line: key.referenced.line(), key: key.value, node: node(value) });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: &Node) -> &[Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float
            | Value::Text(_)
            | Value::List(_)) => panic!("{}", other.noun()),
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let tree = parse("a: 1\nb:\n  - x\n  - c: true\n    d: [p,\n     q]\n").unwrap();
        let root = entries(&tree);
        assert_eq!((root[0].line, root[0].node.line), (1, 1));
        assert_eq!((root[1].line, root[1].node.line), (2, 3));
        let Value::List(items) = &root[1].node.value else { panic!() };
        assert_eq!((items[0].line, items[1].line), (3, 4));
        let inner = entries(&items[1]);
        assert_eq!((inner[0].line, inner[1].line), (4, 5));
        let Value::List(flow) = &inner[1].node.value else { panic!() };
        assert_eq!((flow[0].line, flow[1].line), (5, 6));
    }

    #[test]
    fn repeated_keys_are_kept_for_the_report() {
        let tree = parse("a: 1\na: 2\n").unwrap();
        assert_eq!(entries(&tree).iter().map(|entry| entry.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_line() {
        let (line, message) = parse("a: 1\nb: [1,\nc: 2\n").unwrap_err();
        assert!(line.is_some() && !message.is_empty(), "{line:?} {message}");
    }

    #[test]
    fn merge_keys_and_several_documents_are_refused() {
        assert!(parse("a: &x {b: 1}\nc: {<<: *x}\n").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
    }
}
