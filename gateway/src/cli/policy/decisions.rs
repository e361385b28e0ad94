//! `policy explain` and `policy replay`: decisions that were taken, in words and before another set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anstream::println;
use fhirwall_policy::explain;
use fhirwall_policy::question::Question;
use fhirwall_policy::record::DecisionRecord;

use super::tables::report_differences;
use super::{Ended, Explain, Found, Log, Output, Replay, Set, read};
use crate::audit::EncryptionKey;
use crate::audit::read::{Filter, entries};
use crate::cli::sealed::encryption_key;

/// Why a decision came out as it did.
pub(super) fn explain(args: &Explain) -> Ended {
    let set = args.set.load()?;
    let is_text = args.what == Path::new("-") || args.what.exists();
    if let Some((dir, key)) = args.log.place(&args.set)?.filter(|_| !is_text) {
        let id = args.what.to_string_lossy().into_owned();
        let found = recorded(&dir, key.as_ref(), &Filter { decision: Some(id.clone()), ..Filter::default() })?;
        for record in &found {
            println!("{}", explain::explain_record(&set, record));
        }
        if found.is_empty() {
            println!("the log in `{}` holds no decision {id} that policy took", dir.display());
        }
        return Ok(Found::if_any(found.is_empty()));
    }
    let (text, name) = (read(&args.what)?, args.what.display());
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("`{name}` is no JSON: {error}"))?;
    if value.get("version").is_some() {
        println!("{}", explain::explain_record(&set, &DecisionRecord::from_json(&text)?));
        return Ok(Found::Nothing);
    }
    let question: Question = serde_json::from_value(value)
        .map_err(|error| format!("`{name}` is neither a decision record nor a question: {error}"))?;
    let explanation = explain::explain(&set, &question);
    match args.set.output {
        Output::Text => println!("{explanation}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&explanation).map_err(|error| error.to_string())?),
    }
    Ok(Found::Nothing)
}

/// Decisions that come out otherwise by this set.
pub(super) fn replay(args: &Replay) -> Ended {
    let set = args.set.load()?;
    let records = match (&args.records, args.log.place(&args.set)?) {
        (Some(file), _) => of_lines(&read(file)?)?,
        (None, Some((dir, key))) => recorded(&dir, key.as_ref(), &Filter::default())?,
        (None, None) => {
            return Err(
                "what is to be replayed? Give a file of decision records, or --audit DIR, or --config FILE".into()
            );
        }
    };
    let mut differing = Vec::new();
    let mut replayed = 0_usize;
    for (question, said) in records.iter().flat_map(DecisionRecord::questions) {
        replayed += 1;
        let ruling = set.rule(&question);
        if said.differs(&ruling) {
            differing.push((question, said.as_ruling(), ruling));
        }
    }
    report_differences(args.set.output, replayed, &differing)
}

impl Log {
    /// The log's directory and key, where a log was named at all.
    fn place(&self, set: &Set) -> Result<Option<(PathBuf, Option<EncryptionKey>)>, String> {
        let config = set.configuration()?;
        let configured = config.as_ref().map(|config| config.gateway.audit.dir.to_path_buf());
        let Some(dir) = self.audit.clone().or(configured) else { return Ok(None) };
        Ok(Some((dir, encryption_key(self.encryption_key.as_deref(), config.as_ref())?)))
    }
}

/// The decisions of a log's entries, each once: an attempt is a step of the disclosure or refusal that follows it.
fn recorded(dir: &Path, key: Option<&EncryptionKey>, filter: &Filter) -> Result<Vec<DecisionRecord>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read `{}`: {error}", dir.display());
    let mut found: BTreeMap<String, DecisionRecord> = BTreeMap::new();
    for facts in entries(dir, key, filter).map_err(unreadable)?.iter().filter_map(|entry| entry.record()?.facts) {
        let record = DecisionRecord::from_json(&facts.to_string())?;
        found.insert(record.decision.clone(), record);
    }
    // Ids are made of the time: this is their order.
    Ok(found.into_values().collect())
}

fn of_lines(text: &str) -> Result<Vec<DecisionRecord>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| DecisionRecord::from_json(line).map_err(|error| format!("line {}: {error}", at + 1)))
        .collect()
}
