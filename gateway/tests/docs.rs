//! What the documentation says is so: links lead somewhere, commands are the program's own, keys are in the schema, and the
//! quick start runs as it is printed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{CommandFactory as _, Parser as _};
use fhirwall::cli::Cli;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

/// A page: what is read aloud, and what stands in its fences.
struct Page {
    path: PathBuf,
    prose: String,
    /// Language and lines.
    fences: Vec<(String, Vec<String>)>,
}

fn pages() -> Vec<Page> {
    let mut folders = vec![root().join("docs"), root().join("deploy")];
    let mut paths: Vec<PathBuf> = files(&root());
    while let Some(folder) = folders.pop() {
        for path in files(&folder) {
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    paths.retain(|path| path.extension().is_some_and(|own| own == "md"));
    paths.sort();
    paths.into_iter().map(page).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn page(path: PathBuf) -> Page {
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut prose, mut fences, mut open) = (String::new(), Vec::<(String, Vec<String>)>::new(), false);
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                open = true;
                fences.push((language.trim().to_owned(), Vec::new()));
            }
            None if open => fences.last_mut().unwrap().1.push(line.to_owned()),
            None => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    Page { path, prose, fences }
}

/// What stands between backticks; a span may be broken over lines.
fn spans(prose: &str) -> Vec<String> {
    prose
        .split("\n\n")
        .flat_map(|part| part.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect::<Vec<_>>())
        .collect()
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(path: &Path) -> BTreeSet<String> {
    let page = page(path.to_owned());
    page.prose.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_and_anchor_leads_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let without_code: String = page.prose.split('`').step_by(2).collect();
        for target in without_code.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            assert!(there.exists(), "{}: {target}", page.path.display());
            if !fragment.is_empty() {
                assert!(anchors(&there).contains(fragment), "{}: {target}: {:?}", page.path.display(), anchors(&there));
            }
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found");
}

/// The words of a line as a shell splits them; `None` where a word is not for a shell.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The simple commands of a line: without what pipes, redirections and variables surround them.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut words = words(line).into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "|" | "&&" | "||" | ";" | "&" => commands.push(Vec::new()),
            ">" | "<" | ">>" | "2>" => drop(words.next()),
            "sudo" | "time" => {}
            other if commands.last().unwrap().is_empty() && other.contains('=') => {}
            _ => commands.last_mut().unwrap().push(word),
        }
    }
    commands
}

/// The lines of a fence that somebody would type.
fn typed(language: &str, lines: &[String]) -> Vec<String> {
    let joined = lines.join("\n").replace("\\\n", " ");
    match language {
        "sh" | "bash" => joined.lines().map(str::to_owned).collect(),
        "console" => joined.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn cargo_is_right(words: &[String]) -> Result<(), String> {
    let manifests: String = [
        "Cargo.toml",
        "gateway/Cargo.toml",
        "policy/Cargo.toml",
        "fhir-profiles/Cargo.toml",
        "certs/Cargo.toml",
        "tests/Cargo.toml",
    ]
    .iter()
    .map(|file| std::fs::read_to_string(root().join(file)).unwrap())
    .chain(benches())
    .collect();
    for pair in words.windows(2) {
        let name = &pair[1];
        let known = match pair[0].as_str() {
            "-p" | "--package" => manifests.contains(&format!("name = \"{name}\"")),
            "--test" | "--bench" | "--bin" | "--example" => {
                manifests.contains(&format!("name = \"{name}\"")) || target_files().contains(name)
            }
            _ => true,
        };
        if !known {
            return Err(format!("there is no {name}"));
        }
    }
    match (words.get(1).map(String::as_str), words.iter().position(|word| word == "--")) {
        (Some("run"), Some(after)) if !words.iter().any(|word| word == "--example") => {
            let own = std::iter::once("fhirwall".to_owned()).chain(words[after + 1..].iter().cloned());
            Cli::try_parse_from(own).map(drop).map_err(|error| error.to_string())
        }
        (Some("build" | "test" | "bench" | "clippy" | "fmt" | "install" | "deny" | "fuzz" | "run"), _) => Ok(()),
        _ => Err("that is no verb of cargo that is used here".to_owned()),
    }
}

fn benches() -> Vec<String> {
    let found = files(&root().join("benches")).into_iter().map(|path| path.join("Cargo.toml"));
    found.chain([root().join("benches/Cargo.toml")]).filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// Names of tests, benches and examples that are files of their own.
fn target_files() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for package in ["gateway", "policy", "fhir-profiles", "certs", "tests", "benches"] {
        for kind in ["tests", "benches", "examples", "src/bin"] {
            let folder = root().join(package).join(kind);
            if folder.is_dir() {
                names.extend(
                    files(&folder).iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())),
                );
            }
        }
    }
    names
}

#[test]
fn every_command_in_a_fence_is_one_that_the_program_takes() {
    let mut checked = 0;
    for page in pages() {
        for (language, lines) in &page.fences {
            for line in typed(language, lines) {
                for command in commands(&line) {
                    let outcome = match command.first().map(String::as_str) {
                        Some("fhirwall") => Cli::try_parse_from(&command).map(drop).map_err(|error| error.to_string()),
                        Some("cargo") => cargo_is_right(&command),
                        Some(".ci/outside") => part_is_there(&command),
                        _ => continue,
                    };
                    checked += 1;
                    outcome.unwrap_or_else(|error| panic!("{}: {line}: {error}", page.path.display()));
                }
            }
        }
    }
    assert!(checked > 40, "only {checked} commands were found");
}

fn part_is_there(command: &[String]) -> Result<(), String> {
    match command.get(1) {
        Some(part) if !root().join(".ci/parts").join(part).is_file() => Err(format!("there is no part {part}")),
        _ => Ok(()),
    }
}

/// A command in a sentence may leave out what the sentence says: its verbs and flags exist.
#[test]
fn every_command_in_a_sentence_has_verbs_and_flags_that_exist() {
    let mut checked = 0;
    for page in pages().into_iter().filter(|page| !page.path.ends_with("CHANGELOG.md")) {
        for span in spans(&page.prose) {
            for command in commands(&span) {
                match command.first().map(String::as_str) {
                    Some("fhirwall") => exists(&command[1..]),
                    Some(".ci/outside") => part_is_there(&command),
                    _ => continue,
                }
                .unwrap_or_else(|what| panic!("{}: `{span}`: {what}", page.path.display()));
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "only {checked} commands were found");
}

fn exists(words: &[String]) -> Result<(), String> {
    let mut command = Cli::command();
    command.build();
    let mut here = &command;
    for word in words {
        if let Some(flag) = word.strip_prefix("--") {
            let name = flag.split('=').next().unwrap_or(flag);
            if !here.get_arguments().any(|own| own.get_long() == Some(name)) && name != "help" {
                return Err(format!("{} has no --{name}", here.get_name()));
            }
        } else if here.has_subcommands() && word.starts_with(|c: char| c.is_ascii_lowercase()) {
            here = here.find_subcommand(word).ok_or_else(|| format!("{} has no {word}", here.get_name()))?;
        }
    }
    Ok(())
}

/// Every key of `value` is in the schema.
fn keys_are_known(value: &Value, schema: &Value, path: &str) -> Result<(), String> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(key, below)| {
            let known = schema.pointer("/properties").and_then(|own| own.get(key));
            keys_are_known(below, known.ok_or_else(|| format!("{path}.{key} is no key"))?, &format!("{path}.{key}"))
        }),
        Value::Array(items) => {
            items.iter().try_for_each(|item| keys_are_known(item, schema.get("items").unwrap_or(&Value::Null), path))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[test]
fn every_key_of_an_example_is_in_the_schema() {
    let (gateway, partner) = (fhirwall::config::json_schema(), fhirwall::config::partner_json_schema());
    let mut checked = 0;
    for page in pages() {
        for (_, lines) in page.fences.iter().filter(|(language, _)| language == "yaml") {
            let text = lines.join("\n").replace('…', "x");
            let value: Value =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", page.path.display()));
            let schema = match value.get("kind").and_then(Value::as_str) {
                Some("Partner") => &partner,
                Some("Gateway") | None => &gateway,
                Some(_) => continue,
            };
            keys_are_known(&value, schema, "").unwrap_or_else(|what| panic!("{}: {what}", page.path.display()));
            checked += 1;
        }
    }
    assert!(checked > 3, "only {checked} examples were found");
}

/// Every section of a schema, at any depth.
fn sections<'a>(schema: &'a Value, found: &mut Vec<&'a serde_json::Map<String, Value>>) {
    let schema = schema.get("items").unwrap_or(schema);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        found.push(properties);
        properties.values().for_each(|below| sections(below, found));
    }
}

/// `limits.address.failures_per_minute` in a sentence is such a key, of the gateway's file or a partner's, from the top of the
/// file or from a section that the sentence is about.
#[test]
fn every_key_in_a_sentence_is_in_the_schema() {
    let schemas = [fhirwall::config::json_schema(), fhirwall::config::partner_json_schema()];
    let mut all = Vec::new();
    schemas.iter().for_each(|schema| sections(schema, &mut all));
    let follows = |start: &Value, rest: &[&str]| {
        let step = |here: &Value, name: &&str| here.get("items").unwrap_or(here).get("properties")?.get(*name).cloned();
        rest.iter().try_fold(start.clone(), |here, name| step(&here, name)).is_some()
    };
    let is_key = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    const FILES: [&str; 14] =
        ["rs", "md", "yaml", "json", "cedar", "pem", "key", "sh", "html", "crl", "snap", "timer", "service", "example"];
    let mut checked = 0;
    for page in pages().iter().filter(|page| !page.path.ends_with("CHANGELOG.md")) {
        for span in spans(&page.prose) {
            let path: Vec<&str> = span.split('.').collect();
            let starts = schemas.iter().any(|schema| schema["properties"].get(path[0]).is_some());
            if path.len() < 2
                || path.last().is_some_and(|last| FILES.contains(last))
                || !path.iter().all(is_key)
                || !starts
            {
                continue;
            }
            let known = all.iter().any(|section| section.get(path[0]).is_some_and(|start| follows(start, &path[1..])));
            assert!(known, "{}: `{span}` is no key", page.path.display());
            checked += 1;
        }
    }
    assert!(checked > 15, "only {checked} keys were found");
}

/// A shell in `dir` that finds the built program by its name.
fn shell(command: &str, dir: &Path) -> std::process::Output {
    let program = Path::new(env!("CARGO_BIN_EXE_fhirwall")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    Command::new("sh").args(["-euc", command]).current_dir(dir).env("PATH", path).env("NO_COLOR", "1").output().unwrap()
}

/// The first section of the page, from nothing to a gateway that may start: each file is written as it stands there, each
/// command typed. What serves until it is ended is left out.
#[test]
fn the_quick_start_runs_as_it_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let page = page(root().join("docs/quickstart.md"));
    let mut ran = 0;
    for (language, lines) in &page.fences {
        if let Some(file) = lines.first().filter(|_| language == "yaml").and_then(|line| line.strip_prefix("# ")) {
            std::fs::write(dir.path().join(file), lines.join("\n")).unwrap();
        }
        for line in typed(language, lines) {
            let command = words(&line);
            let serves = line.starts_with("fhirwall run") || line.starts_with("fhirwall check --config");
            if command.first().is_some_and(|first| ["fhirwall", "mkdir", "cp"].contains(&first.as_str())) && !serves {
                let output = shell(&line, dir.path());
                let told =
                    [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
                assert!(output.status.success(), "{line}\n{told}");
                ran += 1;
            }
        }
    }
    assert!(ran >= 8, "only {ran} commands ran");
}

/// What operators type on a site, on the demo's: as the page prints it.
#[test]
fn the_operators_commands_run_as_they_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let made = shell("fhirwall demo --once --dir site", dir.path());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let mut ran = 0;
    for name in ["operations.md", "shadow-rollout.md"] {
        let page = page(root().join("docs").join(name));
        for (language, lines) in &page.fences {
            for line in typed(language, lines) {
                if !line.contains("site/") {
                    continue;
                }
                let output = shell(&line, dir.path());
                let told =
                    [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
                // 1: it found what it was asked to look for.
                assert!(matches!(output.status.code(), Some(0 | 1)), "{name}: {line}\n{told}");
                ran += 1;
            }
        }
    }
    assert!(ran >= 8, "only {ran} commands ran");
}
