//! Reading typed settings out of a YAML tree, keeping every problem met on the way.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::config::node::{Node, Value};
use crate::config::problem::{Problem, nearest};
use crate::config::shape::Shape;

/// Where `${NAME}` comes from.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A setting: how it is read, what stands for its absence, how it is described to an editor, and how it is shown.
///
/// One source for the parser, the JSON Schema, the reference page, `/config` and `config diff`.
pub trait Setting: Sized {
    /// Reads the value at `at`; on a mistake notes the problem there and gives `None`.
    fn read(at: &At<'_>) -> Option<Self>;

    /// The value when the key is not written; `None` for a required key.
    fn absent() -> Option<Self> {
        None
    }

    /// What may be written.
    fn shape() -> Shape;

    /// The value as JSON, secrets blanked.
    fn shown(&self) -> serde_json::Value;
}

/// The file being read.
pub(crate) struct Source<'a> {
    file: &'a Path,
    directory: PathBuf,
    env: Environment<'a>,
    problems: RefCell<Vec<Problem>>,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a Path, env: Environment<'a>) -> Self {
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Self { file, directory: directory.to_owned(), env, problems: RefCell::default() }
    }

    /// Reads a whole document as `T`, and says everything that is wrong with it.
    pub(crate) fn read<T: Setting>(self, root: &Node) -> (Option<T>, Vec<Problem>) {
        let read = T::read(&At { source: &self, node: root, key: String::new() });
        (read, self.problems.into_inner())
    }
}

/// A place in the document.
#[derive(Clone, Debug)]
pub struct At<'a> {
    source: &'a Source<'a>,
    node: &'a Node,
    key: String,
}

impl<'a> At<'a> {
    pub(crate) const fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// Notes a problem with this value.
    pub(crate) fn problem(&self, what: impl Into<String>, fix: impl Into<String>) {
        self.problem_on(self.node.line, self.key.clone(), what, fix);
    }

    /// Notes a problem and gives nothing: for `return at.refuse(…)`.
    pub(crate) fn refuse<T>(&self, what: impl Into<String>, fix: impl Into<String>) -> Option<T> {
        self.problem(what, fix);
        None
    }

    /// Notes that another kind of value was expected.
    pub(crate) fn expected<T>(&self, wanted: &str, fix: impl Into<String>) -> Option<T> {
        self.refuse(format!("expected {wanted}, found {}", self.value().noun()), fix)
    }

    /// Notes a problem with a key of this mapping: at its own line when it is written, else at the mapping's.
    pub(crate) fn problem_at(&self, key: &str, what: impl Into<String>, fix: impl Into<String>) {
        match self.key(key) {
            Some(at) => at.problem(what, fix),
            None => self.problem_on(self.node.line, self.path(key), what, fix),
        }
    }

    fn problem_on(&self, line: u64, key: String, what: impl Into<String>, fix: impl Into<String>) {
        self.source.problems.borrow_mut().push(Problem {
            file: self.source.file.to_owned(),
            line: (line > 0).then_some(line),
            key,
            what: what.into(),
            fix: fix.into(),
        });
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// The value of a key of this mapping, when written (YAML null is: not written).
    pub(crate) fn key(&self, name: &str) -> Option<Self> {
        let Value::Map(entries) = self.value() else { return None };
        let entry = entries.iter().find(|entry| entry.key == name)?;
        if matches!(entry.node.value, Value::Null) {
            return None;
        }
        // A mapping or list starts on the line below its key; the key's line is the one to look at.
        Some(Self { source: self.source, node: &entry.node, key: self.path(name) })
    }

    /// The items of this list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        let Value::List(items) = self.value() else {
            return self.expected("a list", "write `[a, b]`, or one `- item` a line");
        };
        let at = |(index, node)| Self { source: self.source, node, key: format!("{}[{index}]", self.key) };
        Some(items.iter().enumerate().map(at).collect())
    }

    /// Makes sure that this is a mapping with none but the known keys, each once.
    pub(crate) fn mapping(&self, known: &[&str]) -> Option<()> {
        let Value::Map(entries) = self.value() else {
            return self.expected("a mapping", format!("write keys under it: {}", known.join(", ")));
        };
        let mut seen: Vec<&str> = Vec::new();
        for entry in entries {
            let path = self.path(&entry.key);
            if seen.contains(&entry.key.as_str()) {
                self.problem_on(entry.line, path, "this key is written twice", "keep one of the two");
            } else if !known.contains(&entry.key.as_str()) {
                let fix = match nearest(&entry.key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("remove it; known here: {}", known.join(", ")),
                };
                self.problem_on(entry.line, path, format!("unknown key `{}`", entry.key), fix);
            }
            seen.push(&entry.key);
        }
        Some(())
    }

    /// The setting at `key`, or what its absence means; a missing required key is a problem.
    pub(crate) fn field<T: Setting>(&self, key: &str, absent: impl FnOnce() -> Option<T>) -> Option<T> {
        if let Some(at) = self.key(key) {
            return T::read(&at);
        }
        let value = absent();
        if value.is_none() {
            let fix = format!("add `{key}: {}`", T::shape().hint());
            self.problem_on(self.node.line, self.path(key), "this key is required", fix);
        }
        value
    }

    /// The text here, with `${NAME}` put in from the environment.
    pub(crate) fn text(&self) -> Option<String> {
        let Value::Text(text) = self.value() else {
            return self.expected("text", "put the value in quotes");
        };
        self.expand(text)
    }

    fn expand(&self, text: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                return self.refuse("`${` without `}`", "write `${NAME}` for an environment variable");
            };
            let Some(value) = (self.source.env)(name) else {
                return self.refuse(
                    format!("the environment has no variable `{name}`"),
                    format!("set {name} for the gateway's process"),
                );
            };
            out.push_str(&value);
            rest = tail;
        }
        out.push_str(rest);
        Some(out)
    }

    /// The text as written, for messages: `${NAME}` stays as it is, so that no secret is told.
    pub(crate) fn written(&self) -> &'a str {
        match self.value() {
            Value::Text(text) => text,
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float | Value::List(_) | Value::Map(_) => "",
        }
    }

    /// Does the text here come from the environment alone (`${NAME}`)?
    pub(crate) fn is_from_environment(&self) -> bool {
        matches!(self.value(), Value::Text(text) if text.starts_with("${") && text.find('}') == Some(text.len() - 1))
    }

    /// A path, relative ones from the directory of the file that names them.
    pub(crate) fn file_path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.trim().is_empty() || text.contains('\0') {
            return self.refuse("this is no path", "write the path of a file");
        }
        if text.contains("-----BEGIN") {
            return self.refuse(
                "this is key or certificate text, where a path belongs",
                "write it to a file and name the file here",
            );
        }
        Some(self.source.directory.join(text))
    }
}
