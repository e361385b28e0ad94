//! What a configuration may hold, as data: the source of the JSON Schema, the reference page and the parser's hints.

use serde_json::{Value, json};

/// The kinds of values a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Text of some form.
    Text(Form),
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// One of these words, each with its meaning.
    Words(Vec<(&'static str, &'static str)>),
    /// A list.
    List(Box<Self>),
    /// A mapping with known keys.
    Section(Section),
}

/// A form of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is, in a few words.
    pub what: &'static str,
    /// A regular expression for editors; the parser's own check may be narrower.
    pub pattern: Option<&'static str>,
    /// One that is right.
    pub example: &'static str,
}

/// A mapping and its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The name of the type, for titles.
    pub name: &'static str,
    /// What it is for.
    pub doc: String,
    /// Its keys, in the order in which they are best read.
    pub keys: Vec<Key>,
}

/// One key of a section.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The key as written.
    pub name: &'static str,
    /// What it does.
    pub doc: String,
    /// Must it be written?
    pub required: bool,
    /// What holds when it is not written, where there is a value for that.
    pub default: Option<Value>,
    /// What may be written.
    pub shape: Shape,
}

impl Shape {
    /// A short example for a message.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Text(form) => form.example.to_owned(),
            Self::Bool => "true".to_owned(),
            Self::Integer { min, .. } => min.to_string(),
            Self::Words(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" | "),
            Self::List(of) => format!("[{}]", of.hint()),
            Self::Section(section) => {
                let required = section.keys.iter().filter(|key| key.required);
                format!("{{{}}}", required.map(|key| format!("{}: …", key.name)).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The JSON Schema (draft 2020-12) of this shape.
    pub fn json_schema(&self) -> Value {
        match self {
            Self::Text(form) => {
                let mut schema = json!({"type": "string", "description": form.what, "examples": [form.example]});
                if let (Some(pattern), Some(object)) = (form.pattern, schema.as_object_mut()) {
                    // Any text may come from the environment.
                    object.insert("pattern".to_owned(), json!(format!(r"{pattern}|\$\{{")));
                }
                schema
            }
            Self::Bool => json!({"type": "boolean"}),
            Self::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            Self::Words(words) => {
                let one = |(word, doc): &(&str, &str)| json!({"const": word, "description": doc});
                json!({"oneOf": words.iter().map(one).collect::<Vec<_>>()})
            }
            Self::List(of) => json!({"type": "array", "items": of.json_schema()}),
            Self::Section(section) => section.json_schema(),
        }
    }
}

impl Section {
    fn json_schema(&self) -> Value {
        let mut properties = serde_json::Map::new();
        for key in &self.keys {
            let mut schema = key.shape.json_schema();
            if let Some(object) = schema.as_object_mut() {
                object.insert("description".to_owned(), json!(key.doc));
                if let Some(default) = &key.default {
                    object.insert("default".to_owned(), default.clone());
                }
            }
            properties.insert(key.name.to_owned(), schema);
        }
        let required: Vec<_> = self.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
        json!({
            "type": "object",
            "title": self.name,
            "description": self.doc,
            "additionalProperties": false,
            "required": required,
            "properties": properties,
        })
    }
}
