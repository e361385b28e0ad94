//! The configuration reference as a page, from the same source as the parser.

use std::fmt::Write as _;

use crate::config::gateway::Gateway;
use crate::config::partner::PartnerFile;
use crate::config::read::Setting as _;
use crate::config::shape::{Section, Shape};

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Written by `fhirwall config reference` from the parser's own tables; a test compares it.\n\n\
         One YAML file for the gateway, one for each partner, and a directory of Cedar policies. Unknown keys are errors.\n\
         Relative paths start at the directory of the file that names them. `${NAME}` stands for a variable of the\n\
         environment; secrets come from there or from files, never from the configuration. Files are read again when they\n\
         change: a configuration goes live whole or not at all, so replace files by renaming new ones over them.\n\n\
         For editors: `fhirwall config schema > fhirwall.schema.json` and, in the first line of the file,\n\
         `# yaml-language-server: $schema=fhirwall.schema.json`.\n",
    );
    for (title, shape) in [("The gateway's file", Gateway::shape()), ("A partner's file", PartnerFile::shape())] {
        let _written = write!(page, "\n## {title}\n");
        section(&mut page, "", &shape);
    }
    page
}

/// A section as a table, then the sections below it.
fn section(page: &mut String, path: &str, shape: &Shape) {
    let Some(this) = as_section(shape) else { return };
    if !path.is_empty() {
        let _written = write!(page, "\n### `{path}`\n");
    }
    let _written = write!(page, "\n{}\n\n| key | takes | default | what it does |\n|---|---|---|---|\n", this.doc);
    for key in &this.keys {
        let default = match (&key.default, key.required) {
            (_, true) => "required".to_owned(),
            (Some(value), false) => format!("`{value}`"),
            (None, false) => String::new(),
        };
        let doc = key.doc.replace('\n', " ").replace('|', "\\|");
        let _written = writeln!(page, "| `{}` | {} | {default} | {doc} |", key.name, takes(&key.shape));
    }
    for key in &this.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let path = if matches!(key.shape, Shape::List(_)) { format!("{path}[]") } else { path };
        section(page, &path, &key.shape);
    }
}

fn as_section(shape: &Shape) -> Option<&Section> {
    match shape {
        Shape::Section(section) => Some(section),
        Shape::List(of) => as_section(of),
        Shape::Text(_) | Shape::Bool | Shape::Integer { .. } | Shape::Words(_) => None,
    }
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Text(form) if form.what == "text" => "text".to_owned(),
        Shape::Text(form) => format!("{}, as `{}`", form.what.replace('|', "\\|"), form.example),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer { min, .. } => format!("a number from {min}"),
        Shape::Words(words) => {
            let one =
                |(word, doc): &(&str, &str)| format!("`{word}`: {}", doc.replace('\n', " ").trim_end_matches('.'));
            words.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Shape::List(of) if as_section(of).is_some() => "a list, see below".to_owned(),
        Shape::List(of) => format!("a list of: {}", takes(of)),
        Shape::Section(_) => "a mapping, see below".to_owned(),
    }
}
