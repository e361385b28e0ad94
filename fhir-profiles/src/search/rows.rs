//! Which rows of an answer a search accounts for: what it read of a row that matched, and what brought a row that did not.
//!
//! A row that matched by an element which this caller may not see would tell what the element holds; and an included row
//! whose matching row is withheld would tell that there is one. Both go (architecture rule 2, attack cases 5, 6 and 9).

use std::collections::HashMap;

use serde_json::Value;

use crate::ids::{InstanceId, ResourceType};
use crate::reference::Reference;
use crate::search::element::nodes;
use crate::search::matches::satisfies;
use crate::search::{Query, definition, rules};

/// One row of an answer, as the caller would see it.
#[derive(Clone, Copy)]
pub struct AnswerRow<'a> {
    pub instance: &'a InstanceId,
    pub body: &'a Value,
    /// It is shown because it matched the criteria, not because something included it.
    pub matched: bool,
}

/// Rows are PHI.
impl core::fmt::Debug for AnswerRow<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AnswerRow").field("matched", &self.matched).finish_non_exhaustive()
    }
}

impl Query {
    /// Did the criteria, or the order, read the element that was taken out at `removed`? `removed` is a path of member
    /// names below the resource, such as `component[1].code`; empty is the whole resource.
    ///
    /// Where one of the criteria reads what cannot be named ([`Query::reads`]), it may have read anything.
    pub fn read_what_stood_at(&self, kind: ResourceType, removed: &str) -> bool {
        self.reads(kind).is_none_or(|paths| paths.iter().any(|path| overlap(path, removed)))
    }

    /// As [`Query::read_what_stood_at`], of several removals, and not counting a criterion that what is `shown` of the row
    /// meets by itself: that the row was found then says nothing of what was taken out.
    pub fn rested_on(&self, kind: ResourceType, removed: &[&str], shown: &Value, bases: &[&str]) -> bool {
        let touched = |name: &str| match definition(kind, name) {
            Some(row) if !row.paths.is_empty() => {
                row.paths().any(|path| removed.iter().any(|removed| overlap(path, removed)))
            }
            Some(_) | None => true,
        };
        self.iter().any(|parameter| match parameter.name() {
            "_include" | "_revinclude" | "_has" | "_type" => false,
            "_sort" => parameter.value().split(',').any(|name| touched(name.strip_prefix('-').unwrap_or(name))),
            name => touched(name) && !satisfies(shown, kind, parameter, bases).unwrap_or(false),
        })
    }

    /// Which rows stand in the answer by what is in it: those that matched, and those that `_include` or `_revinclude`
    /// reach from these. One that only a row outside of `rows` could have brought is `false`.
    ///
    /// R4 search.html#include: without `:iterate`, only rows that matched bring others.
    pub fn accounts_for(&self, rows: &[AnswerRow<'_>], bases: &[&str]) -> Vec<bool> {
        let places: HashMap<&InstanceId, usize> = rows.iter().enumerate().map(|(at, row)| (row.instance, at)).collect();
        let mut brings: Vec<Vec<(usize, bool)>> = vec![Vec::new(); rows.len()];
        for parameter in self.iter() {
            let forward = match parameter.name() {
                "_include" => true,
                "_revinclude" => false,
                _ => continue,
            };
            let Ok((included, iterate)) = rules::included(parameter) else { continue };
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.instance.kind == included.source) {
                for target in
                    included.row.paths().flat_map(|path| nodes(row.body, path)).filter_map(|node| named(node.value))
                {
                    let Some(to) = target.on_server(bases).and_then(|instance| places.get(instance)).copied() else {
                        continue;
                    };
                    let fits =
                        included.target.is_none_or(|kind| rows.get(to).is_some_and(|row| row.instance.kind == kind));
                    let (from, to) = if forward { (at, to) } else { (to, at) };
                    if let (true, Some(list)) = (fits, brings.get_mut(from)) {
                        list.push((to, iterate));
                    }
                }
            }
        }
        let mut stands: Vec<bool> = rows.iter().map(|row| row.matched).collect();
        let mut open: Vec<usize> = (0..rows.len()).filter(|at| stands.get(*at) == Some(&true)).collect();
        while let Some(from) = open.pop() {
            let matched = rows.get(from).is_some_and(|row| row.matched);
            for (to, iterate) in brings.get(from).into_iter().flatten() {
                if let Some(stands @ false) = stands.get_mut(*to)
                    && (matched || *iterate)
                {
                    *stands = true;
                    open.push(*to);
                }
            }
        }
        stands
    }
}

/// The reference that an element holds: a Reference, or a canonical.
fn named(value: &Value) -> Option<Reference> {
    let text = value.as_str().or_else(|| value.get("reference").and_then(Value::as_str))?;
    Some(Reference::parse(text))
}

/// Is one of the paths within the other? `read` is a path of the table: it may have filters (`subject[Patient]`) and names
/// choices without their type (`value` for `valueQuantity`).
fn overlap(read: &str, removed: &str) -> bool {
    let plain = |step: &'_ str| step.split('[').next().unwrap_or(step).trim_start_matches('_').to_owned();
    let removed = removed.trim_start_matches('.');
    if removed.is_empty() {
        return true;
    }
    read.split('.').map(plain).zip(removed.split('.').map(plain)).all(|(read, removed)| {
        removed
            .strip_prefix(read.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|letter: char| letter.is_ascii_uppercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(kind: &str, text: &str) -> Query {
        Query::search(&[kind.parse().unwrap()], Some(text), None, "").unwrap()
    }

    #[track_caller]
    fn read(kind: &str, text: &str, removed: &str, expected: bool) {
        let kind: ResourceType = kind.parse().unwrap();
        assert_eq!(
            query(kind.as_str(), text).read_what_stood_at(kind, removed),
            expected,
            "{kind}?{text} and {removed}"
        );
    }

    #[test]
    fn a_criterion_reads_its_element_and_what_stands_in_it() {
        read("Observation", "value-string=x", ".valueString", true);
        read("Observation", "value-string=x", ".note[1]", false);
        read("Observation", "patient=a", ".note[1].text", false);
        read("Observation", "patient=a", ".subject", true);
        read("Observation", "component-code=x", ".component[1]", true);
        read("Observation", "component-code=x", ".component[1].code.coding[0]", true);
        read("Observation", "component-code=x", ".component[1].valueString", false);
        read("Observation", "code=x", ".codeable", false);
        read("Patient", "birthdate=1970", "._birthDate", true);
        read("Patient", "_sort=birthdate", ".birthDate", true);
        read("Patient", "_sort=-birthdate&gender=male", ".address[0]", false);
        read("Condition", "encounter=Encounter/e", ".encounter", true);
        read("Condition", "encounter.class=AMB", ".encounter", true);
        read("Condition", "_id=a&_lastUpdated=ge2024", ".code", false);
        read("Condition", "_id=a", "", true);
    }

    #[test]
    fn a_row_that_is_found_by_what_is_shown_does_not_rest_on_what_is_not() {
        let kind: ResourceType = "Condition".parse().unwrap();
        let shown = json!({"resourceType": "Condition", "category": [{"coding": [{"code": "problem-list-item"}]}]});
        let rests = |text: &str| query("Condition", text).rested_on(kind, &[".category[1]"], &shown, &[]);
        assert!(!rests("category=problem-list-item"));
        assert!(rests("category=sud-program"));
        assert!(!rests("category=sud-program,problem-list-item"));
        assert!(rests("category=problem-list-item&category=sud-program"));
        assert!(rests("_sort=category"), "an order is not seen on one row alone");
        assert!(!rests("code=x"), "it reads something else");
    }

    fn stands(query: &Query, rows: &[(&str, Value, bool)]) -> Vec<bool> {
        let instances: Vec<InstanceId> =
            rows.iter().map(|(name, ..)| Reference::parse(name).on_server(&[]).unwrap().clone()).collect();
        let rows: Vec<AnswerRow<'_>> = instances
            .iter()
            .zip(rows)
            .map(|(instance, (_, body, matched))| AnswerRow { instance, body, matched: *matched })
            .collect();
        query.accounts_for(&rows, &["https://ehr/fhir"])
    }

    #[test]
    fn an_included_row_stands_by_the_row_that_brought_it() {
        let about = |patient: &str| json!({"subject": {"reference": format!("Patient/{patient}")}});
        let asked = query("Condition", "code=x&_include=Condition:subject");
        let rows = [
            ("Condition/1", about("a"), true),
            ("Patient/a", json!({}), false),
            // Its Condition is withheld.
            ("Patient/b", json!({}), false),
        ];
        assert_eq!(stands(&asked, &rows), [true, true, false]);
        let foreign = [
            ("Condition/1", json!({"subject": {"reference": "https://other/fhir/Patient/a"}}), true),
            ("Patient/a", json!({}), false),
        ];
        assert_eq!(stands(&asked, &foreign), [true, false]);
        // By another element than the one that the parameter reads it does not stand.
        let asserter =
            [("Condition/1", json!({"asserter": {"reference": "Patient/a"}}), true), ("Patient/a", json!({}), false)];
        assert_eq!(stands(&asked, &asserter), [true, false]);
    }

    #[test]
    fn reverse_includes_and_iterations_follow_what_stands() {
        let asked = query("Patient", "_id=a,b&_revinclude=Provenance:target&_include:iterate=Provenance:agent");
        let provenance =
            |of: &str| json!({"target": [{"reference": of}], "agent": [{"who": {"reference": "Practitioner/p"}}]});
        let rows = [
            ("Patient/a", json!({}), true),
            ("Provenance/1", provenance("Patient/a"), false),
            ("Practitioner/p", json!({}), false),
            ("Provenance/2", provenance("Patient/withheld"), false),
        ];
        assert_eq!(stands(&asked, &rows), [true, true, true, false]);
        // Without `:iterate` an included row brings nothing.
        let asked = query("Patient", "_id=a&_revinclude=Provenance:target&_include:iterate=Patient:organization");
        assert_eq!(stands(&asked, &rows), [true, true, false, false]);
    }

    #[test]
    fn every_reference_parameter_can_be_followed() {
        // What a Bundle holds is in it, and no other row.
        for kind in ResourceType::every().filter(|kind| *kind != ResourceType::BUNDLE) {
            for row in crate::search::definitions(kind).iter().filter(|row| row.kind == crate::search::Kind::Reference)
            {
                assert!(!row.paths.is_empty(), "{kind}.{}", row.name);
            }
        }
    }
}
