//! The labels configuration in the engine's form.

use fhir_profiles::codes::{CodeEntry, CodeList, Date, Dates, part2_lists};
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::labeller::{LabelMapping, Labeller, LabellerConfig, ProgramSource};

use super::BuildError;
use crate::config::{self, CodeListFile, Config, EndpointPart2, LabelSource, UnknownLabel};

/// The labelling service of an endpoint.
pub(super) fn labeller(config: &Config, part2: &EndpointPart2, bases: &[String]) -> Result<Labeller, BuildError> {
    with_lists(config, part2, bases, in_force(config)?)
}

/// The same with the candidate lists, if there are any: each in the place of the list of its name, or beside all.
pub(super) fn candidate(
    config: &Config,
    part2: &EndpointPart2,
    bases: &[String],
) -> Result<Option<Labeller>, BuildError> {
    if config.shadow_lists.is_empty() {
        return Ok(None);
    }
    let candidates = config.shadow_lists.iter().map(code_list).collect::<Result<Vec<_>, _>>()?;
    let mut lists = in_force(config)?;
    lists.retain(|list| !candidates.iter().any(|candidate| candidate.name == list.name));
    lists.extend(candidates);
    with_lists(config, part2, bases, lists).map(Some)
}

/// The shipped lists and the organization's own, where codes are looked at.
fn in_force(config: &Config) -> Result<Vec<CodeList>, BuildError> {
    if !config.gateway.labels.sources.contains(&LabelSource::Codes) {
        return Ok(Vec::new());
    }
    let mut lists = part2_lists();
    for file in config.code_lists.iter() {
        let list = code_list(file)?;
        if lists.iter().any(|known| known.name == list.name) {
            return Err(BuildError::Labels(format!("two code lists are called `{}`", list.name)));
        }
        lists.push(list);
    }
    Ok(lists)
}

fn with_lists(
    config: &Config,
    part2: &EndpointPart2,
    bases: &[String],
    lists: Vec<CodeList>,
) -> Result<Labeller, BuildError> {
    let labels = &config.gateway.labels;
    let mapping = |mapping: &config::LabelMapping| {
        let read_as = Label::by_code(&mapping.counts_as, config::READ_AS).ok_or_else(|| {
            BuildError::Labels(format!(
                "`{}` in labels.map is no security label; see docs/redaction.md",
                mapping.counts_as
            ))
        })?;
        Ok(LabelMapping { system: mapping.system.clone(), code: mapping.code.clone(), read_as })
    };
    Ok(Labeller::new(LabellerConfig {
        map: labels.map.iter().map(mapping).collect::<Result<_, BuildError>>()?,
        lists,
        programs: programs(part2),
        unknown: match labels.unknown {
            UnknownLabel::Restricted => LabelSet::EMPTY,
            UnknownLabel::VeryRestricted => LabelSet::EMPTY.with(Label::VERY_RESTRICTED),
        },
        bases: bases.to_vec(),
        ..LabellerConfig::default()
    }))
}

fn programs(part2: &EndpointPart2) -> Vec<ProgramSource> {
    let known = &part2.programs;
    let instances = known.references.iter().filter_map(|reference| config::program_instance(reference));
    let identifiers = known.identifiers.iter().map(|identifier| ProgramSource::Identifier {
        system: identifier.system.clone(),
        value: identifier.value.clone(),
    });
    let sources = known.sources.iter().cloned().map(ProgramSource::MetaSource);
    let tags = known.tags.iter().map(|tag| ProgramSource::Tag { system: tag.system.clone(), code: tag.code.clone() });
    instances.map(ProgramSource::Instance).chain(identifiers).chain(sources).chain(tags).collect()
}

fn code_list(file: &CodeListFile) -> Result<CodeList, BuildError> {
    let labels = file.label_set().map_err(|code| {
        BuildError::Labels(format!("`{code}` in the code list `{}` is no security label", file.name))
    })?;
    let entries = file.codes.iter().flat_map(|group| {
        let dates = Dates::new(group.from.map_or(Date::MIN, day), group.to.map_or(Date::MAX, day));
        let entry =
            move |code: &String| CodeEntry { system: group.system.as_str().into(), code: code.as_str().into(), dates };
        group.codes.iter().map(entry)
    });
    Ok(CodeList {
        name: file.name.as_str().into(),
        version: file.version.as_str().into(),
        source: file.source.as_str().into(),
        labels,
        entries: entries.collect(),
    })
}

fn day(date: time::Date) -> Date {
    Date::new(u32::try_from(date.year()).unwrap_or_default(), u32::from(u8::from(date.month())), u32::from(date.day()))
}
