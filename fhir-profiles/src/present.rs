//! `_elements` and `_summary`, applied here to what is left after the verdict (R4 search.html#elements, #summary).
//!
//! Exactly, per resource: `resourceType`, `id` and `meta` always stay, and so do elements that R4 makes mandatory or
//! modifiers, because leaving those out changes what the rest means. `_elements` keeps the named ones beside them;
//! `_summary=true` those that R4 marks as summary; `_summary=text` the narrative; `_summary=data` all but the narrative.
//! Only base elements are cut: what stays stays whole. What was cut carries the tag `SUBSETTED`. An OperationOutcome is
//! never cut. In a searchset or history every entry's resource is cut, the Bundle is not. Values keep their text.

mod table;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::ids::ResourceType;
use crate::json::{self, Ambiguous};
use crate::label::OBSERVATION_VALUE;
use crate::search::{Presentation, Summary};

type Members = Vec<(String, Box<RawValue>)>;

/// Cuts an answer to what the client wants to see of it. `None`: nothing was to be cut, the text stands as it is.
pub fn present(answer: &[u8], presentation: &Presentation) -> Result<Option<String>, Ambiguous> {
    if presentation.elements.is_empty() && presentation.summary.is_none() {
        return Ok(None);
    }
    let members = json::members(answer)?;
    let is = |name: &str, values: &[&str]| text(&members, name).is_some_and(|text| values.contains(&text.as_str()));
    if is("resourceType", &["Bundle"]) && is("type", &["searchset", "history"]) {
        return bundle(&members, presentation).map(Some);
    }
    resource(members, presentation).map(Some)
}

fn bundle(members: &Members, presentation: &Presentation) -> Result<String, Ambiguous> {
    let mut written: Vec<(&str, String)> = Vec::with_capacity(members.len());
    for (name, raw) in members {
        let text = if name == "entry" { entries(raw.get(), presentation)? } else { raw.get().to_owned() };
        written.push((name, text));
    }
    Ok(json::object(written.iter().map(|(name, text)| (*name, text.as_str()))))
}

fn entries(text: &str, presentation: &Presentation) -> Result<String, Ambiguous> {
    let mut written = Vec::new();
    for entry in json::items(text.as_bytes())? {
        let members = json::members(entry.get().as_bytes())?;
        let mut cut: Vec<(&str, String)> = Vec::with_capacity(members.len());
        for (name, raw) in &members {
            let text = match name.as_str() {
                "resource" => resource(json::members(raw.get().as_bytes())?, presentation)?,
                _ => raw.get().to_owned(),
            };
            cut.push((name, text));
        }
        written.push(json::object(cut.iter().map(|(name, text)| (*name, text.as_str()))));
    }
    Ok(format!("[{}]", written.join(",")))
}

fn resource(members: Members, presentation: &Presentation) -> Result<String, Ambiguous> {
    let kind: Option<ResourceType> = text(&members, "resourceType").and_then(|name| name.parse().ok());
    let uncut = |members: &Members| json::object(members.iter().map(|(name, raw)| (name.as_str(), raw.get())));
    let Some(kind) = kind.filter(|kind| *kind != ResourceType::OPERATION_OUTCOME) else { return Ok(uncut(&members)) };
    let whole = members.len();
    let kept: Members = members.into_iter().filter(|(name, _)| keeps(kind, name, presentation)).collect();
    if kept.len() == whole {
        return Ok(uncut(&kept));
    }
    let tagged = subsetted(kept.iter().find(|(name, _)| name == "meta").map(|(_, raw)| &**raw))?;
    let mut written: Vec<(&str, &str)> = Vec::with_capacity(kept.len() + 1);
    for (name, raw) in kept.iter().filter(|(name, _)| name != "meta") {
        written.push((name, raw.get()));
        if name == "resourceType" {
            written.push(("meta", &tagged));
        }
    }
    Ok(json::object(written))
}

fn keeps(kind: ResourceType, name: &str, presentation: &Presentation) -> bool {
    // `_birthDate` carries the extensions of `birthDate`.
    let name = name.strip_prefix('_').unwrap_or(name);
    if matches!(name, "resourceType" | "id" | "meta") {
        return true;
    }
    let row = table::ELEMENTS.binary_search_by(|(row, _, _)| (*row).cmp(kind.as_str())).ok();
    let (always, summary) =
        row.and_then(|at| table::ELEMENTS.get(at)).map_or(("", ""), |(_, always, summary)| (*always, *summary));
    let listed = |list: &str| list.split(' ').any(|one| one == name);
    let by_elements = presentation.elements.is_empty() || listed(always) || named(kind, name, &presentation.elements);
    let by_summary = match presentation.summary {
        None => true,
        Some(Summary::True) => listed(summary) || listed(always),
        Some(Summary::Text) => name == "text" || listed(always),
        Some(Summary::Data) => name != "text",
    };
    by_elements && by_summary
}

/// `name`, `Patient.name`, `deceased` for `deceasedBoolean`; a deeper path keeps its base element.
fn named(kind: ResourceType, name: &str, elements: &[Box<str>]) -> bool {
    elements.iter().any(|element| {
        let (first, rest) = element.split_once('.').unwrap_or((element, ""));
        let wanted = match first == kind.as_str() && !rest.is_empty() {
            true => rest.split('.').next().unwrap_or(rest),
            false if first.parse::<ResourceType>().is_ok() => return false,
            false => first,
        };
        let choice = name.strip_prefix(wanted).and_then(|suffix| suffix.chars().next());
        !wanted.is_empty() && (wanted == name || choice.is_some_and(|letter| letter.is_ascii_uppercase()))
    })
}

/// `meta` with the tag SUBSETTED, once.
fn subsetted(meta: Option<&RawValue>) -> Result<String, Ambiguous> {
    let tag = format!(r#"{{"system":"{OBSERVATION_VALUE}","code":"SUBSETTED"}}"#);
    let Some(meta) = meta else { return Ok(format!(r#"{{"tag":[{tag}]}}"#)) };
    let members = json::members(meta.get().as_bytes())?;
    let mut tags: Vec<String> = Vec::new();
    for (_, raw) in members.iter().filter(|(name, _)| name == "tag") {
        for item in json::items(raw.get().as_bytes())? {
            if json::parse(item.get().as_bytes())?.get("code").and_then(Value::as_str) != Some("SUBSETTED") {
                tags.push(item.get().to_owned());
            }
        }
    }
    tags.push(tag);
    let tags = format!("[{}]", tags.join(","));
    let others = members.iter().filter(|(name, _)| name != "tag").map(|(name, raw)| (name.as_str(), raw.get()));
    Ok(json::object(others.chain([("tag", tags.as_str())])))
}

fn text(members: &Members, name: &str) -> Option<String> {
    let (_, raw) = members.iter().find(|(member, _)| member == name)?;
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::{RequestParts, interpret};

    const PATIENT: &str = r#"{"resourceType":"Patient","id":"a","meta":{"versionId":"1","security":[{"code":"R"}]},"text":{"status":"generated","div":"<div/>"},"active":true,"name":[{"family":"X"}],"deceasedBoolean":false,"_birthDate":{"extension":[{"url":"u","valueDecimal":1.10}]},"birthDate":"1970-01-01","maritalStatus":{"text":"m"},"photo":[{"url":"p"}]}"#;

    fn cut(query: &str, answer: &str) -> Option<Value> {
        let asked = interpret(&RequestParts {
            method: "GET",
            path: "/Patient/a",
            query: Some(query),
            ..RequestParts::default()
        });
        let presented = present(answer.as_bytes(), asked.unwrap().presentation().unwrap()).unwrap();
        presented.map(|text| serde_json::from_str(&text).unwrap())
    }

    #[track_caller]
    fn keeps_of_patient(query: &str, names: &str) {
        let kept = cut(query, PATIENT).unwrap();
        let kept: Vec<&str> = kept.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(kept.join(" "), names, "{query}");
    }

    #[test]
    fn the_table_has_every_type() {
        assert!(table::ELEMENTS.iter().map(|(name, _, _)| *name).eq(ResourceType::all().iter().copied()));
    }

    #[test]
    fn elements_keep_what_is_named_mandatory_or_a_modifier() {
        keeps_of_patient("_elements=name", "resourceType meta id active name deceasedBoolean");
        keeps_of_patient(
            "_elements=Patient.birthDate",
            "resourceType meta id active deceasedBoolean _birthDate birthDate",
        );
        keeps_of_patient("_elements=Observation.code", "resourceType meta id active deceasedBoolean");
        keeps_of_patient("_elements=deceased,photo", "resourceType meta id active deceasedBoolean photo");
    }

    #[test]
    fn summaries_are_those_of_r4() {
        keeps_of_patient("_summary=true", "resourceType meta id active name deceasedBoolean _birthDate birthDate");
        keeps_of_patient("_summary=text", "resourceType meta id text active deceasedBoolean");
        keeps_of_patient(
            "_summary=data",
            "resourceType meta id active name deceasedBoolean _birthDate birthDate maritalStatus photo",
        );
        assert_eq!(cut("_summary=false", PATIENT), None);
        assert_eq!(cut("_pretty=true", PATIENT), None);
    }

    #[test]
    fn what_is_cut_says_so_and_labels_stay() {
        let kept = cut("_elements=name", PATIENT).unwrap();
        assert_eq!(kept["meta"]["tag"][0]["code"], "SUBSETTED");
        assert_eq!(kept["meta"]["security"][0]["code"], "R");
        let twice = cut("_elements=name", &kept.to_string()).unwrap();
        assert_eq!(twice, kept, "cutting twice cuts once");
    }

    #[test]
    fn decimals_keep_their_text() {
        let presentation = Presentation { elements: vec!["birthDate".into()], ..Presentation::default() };
        assert!(present(PATIENT.as_bytes(), &presentation).unwrap().unwrap().contains("1.10"));
    }

    #[test]
    fn rows_are_cut_and_the_bundle_is_not() {
        let bundle = format!(
            r#"{{"resourceType":"Bundle","type":"searchset","link":[{{"relation":"self"}}],"entry":[{{"fullUrl":"u","resource":{PATIENT},"search":{{"mode":"match"}}}},{{"resource":{{"resourceType":"OperationOutcome","issue":[]}}}}]}}"#
        );
        let kept = cut("_elements=name", &bundle).unwrap();
        assert_eq!(kept["link"][0]["relation"], "self");
        assert_eq!(kept["entry"][0]["search"]["mode"], "match");
        assert_eq!(kept["entry"][0]["resource"].get("photo"), None);
        assert!(kept["entry"][1]["resource"].get("issue").is_some());
        let document = bundle.replace("searchset", "document");
        let kept = cut("_elements=identifier", &document).unwrap();
        assert_eq!(kept.get("entry"), None, "a stored Bundle is a resource like any other");
    }

    #[test]
    fn ambiguous_answers_are_refused() {
        let presentation = Presentation { summary: Some(Summary::Data), ..Presentation::default() };
        for wrong in ["", "[]", r#"{"a":1,"a":2}"#, r#"{"resourceType":"Patient","name":[{"x":1,"x":2}]}"#] {
            assert!(present(wrong.as_bytes(), &presentation).is_err(), "{wrong}");
        }
    }
}
