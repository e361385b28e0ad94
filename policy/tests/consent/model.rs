//! The slow, obvious reading of Consents. It shares no code with the engine: what is uncertain is tried both ways, all
//! ways together, and the least permissive outcome counts.

use std::collections::BTreeSet;

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

use super::case::Ask;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Permit,
    Silent,
    Deny,
}

pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Permit => "permit",
        Verdict::Silent => "silent",
        Verdict::Deny => "deny",
    }
}

/// All consents together, given as parsed JSON of Consents that can be read.
pub fn outcome(consents: &[Value], ask: &Ask) -> Verdict {
    if ask.patient != "a" {
        return Verdict::Deny;
    }
    let each: Vec<Verdict> = consents.iter().map(|consent| one(consent, ask)).collect();
    if each.contains(&Verdict::Deny) {
        Verdict::Deny
    } else if each.contains(&Verdict::Permit) {
        Verdict::Permit
    } else {
        Verdict::Silent
    }
}

/// The most uncertain facts of one consent for which every world can be tried.
const MOST_UNCERTAIN: u32 = 14;

/// Can every world of these consents be tried? Few that chance makes hold too many uncertain facts.
pub fn is_tractable(consents: &[Value], ask: &Ask) -> bool {
    consents.iter().all(|consent| {
        let mut reader = Reader { consent, ask, uncertain: 0 };
        let base = reader.base();
        reader.rule(&consent["provision"], base);
        reader.uncertain <= MOST_UNCERTAIN
    })
}

fn one(consent: &Value, ask: &Ask) -> Verdict {
    let ours = ["Patient/a", "https://ehr.example/fhir/Patient/a"];
    if consent["status"] != "active" || !ours.contains(&text(&consent["patient"]["reference"])) {
        return Verdict::Silent;
    }
    let mut reader = Reader { consent, ask, uncertain: 0 };
    let base = reader.base();
    let root = reader.rule(&consent["provision"], base);
    assert!(reader.uncertain <= MOST_UNCERTAIN, "too many uncertain facts for the slow model");
    let worst = (0..1u32 << reader.uncertain)
        .flat_map(|world| [(world, true), (world, false)])
        .map(|(world, restating)| World { reader: &reader, world, restating }.rule(&root, &BTreeSet::new(), &[]))
        .max()
        .unwrap();
    let scope = codes(&consent["scope"]);
    let scoped = |code: &str| scope.contains(&format!("http://terminology.hl7.org/CodeSystem/consentscope|{code}"));
    if scoped("patient-privacy") {
        worst
    } else if scoped("research") {
        if worst == Verdict::Deny && kinds_of(&ask.purpose).contains(&"HRESCH") { worst } else { Verdict::Silent }
    } else if scoped("treatment") || scoped("adr") {
        Verdict::Silent
    } else {
        worst.max(Verdict::Silent)
    }
}

/// True, false, or true in some worlds.
#[derive(Clone, Debug)]
enum Fact {
    Is(bool),
    May(u32),
    All(Vec<Self>),
    Some(Vec<Self>),
}

struct Rule<'a> {
    json: &'a Value,
    decides: &'static str,
    who: Vec<Fact>,
    what: Vec<(&'static str, bool, Fact)>,
    except: Vec<Self>,
}

struct Reader<'a> {
    consent: &'a Value,
    ask: &'a Ask,
    uncertain: u32,
}

impl<'a> Reader<'a> {
    fn may(&mut self) -> Fact {
        self.uncertain += 1;
        Fact::May(self.uncertain - 1)
    }

    fn base(&self) -> &'static str {
        let rule = codes(&self.consent["policyRule"]);
        let has = |code: &str| rule.contains(&format!("http://terminology.hl7.org/CodeSystem/v3-ActCode|{code}"));
        if has("OPTOUT") || has("OPTOUTE") {
            "deny"
        } else if has("EMRGONLY") {
            if kinds_of(&self.ask.purpose).contains(&"ETREAT") { "permit" } else { "deny" }
        } else if has("OPTIN") || has("OPTINR") {
            "permit"
        } else {
            "nothing"
        }
    }

    fn rule(&mut self, json: &'a Value, untyped: &'static str) -> Rule<'a> {
        let (decides, odd) = match json["type"].as_str() {
            Some("permit") => ("permit", false),
            Some("deny") => ("deny", false),
            Some(_) => ("deny", true),
            None => (untyped, false),
        };
        let deny = decides == "deny";
        let mut who = vec![self.period(json), self.actors(json, deny), self.actions(json, deny), self.purposes(json)];
        let known = [
            "type",
            "period",
            "actor",
            "action",
            "securityLabel",
            "purpose",
            "class",
            "code",
            "dataPeriod",
            "data",
            "provision",
            "extension",
            "id",
        ];
        if odd || json.as_object().is_some_and(|rule| rule.keys().any(|key| !known.contains(&key.as_str()))) {
            who.push(self.may());
        }
        let stated = |element: &str| !json[element].is_null();
        let what = vec![
            ("securityLabel", stated("securityLabel"), self.labels(json, deny)),
            ("class", stated("class"), self.classes(json)),
            ("code", stated("code"), self.coded(json)),
            ("dataPeriod", stated("dataPeriod"), self.data_period(json, deny)),
            ("data", stated("data"), self.data(json)),
        ];
        let except = items(&json["provision"]).iter().map(|nested| self.rule(nested, "deny")).collect();
        Rule { json, decides, who, what, except }
    }

    fn zone(&self) -> [i64; 2] {
        if self.ask.utc { [0, 0] } else { [-12, 14] }
    }

    /// Is every possible instant of `a` at or before every one of `b`, none, or some?
    fn before(&mut self, a: Moment, b: Moment) -> Fact {
        if a.floats && b.floats {
            return Fact::Is(a.at <= b.at);
        }
        let zone = self.zone();
        let range = |m: Moment| if m.floats { zone.map(|hours| m.at - Duration::hours(hours)) } else { [m.at, m.at] };
        let (a, b) = (range(a), range(b));
        let all = a.iter().all(|a| b.iter().all(|b| a <= b));
        let none = a.iter().all(|a| b.iter().all(|b| a > b));
        if all {
            Fact::Is(true)
        } else if none {
            Fact::Is(false)
        } else {
            self.may()
        }
    }

    fn period(&mut self, json: &Value) -> Fact {
        let now = OffsetDateTime::parse(&self.ask.now, &Rfc3339).unwrap();
        let now = Moment { at: PrimitiveDateTime::new(now.date(), now.time()), floats: false };
        let period = &json["period"];
        let begun = match period["start"].as_str() {
            None if period["_start"].is_null() => Fact::Is(true),
            None => self.may(),
            Some(start) => self.before(span(start).0, now),
        };
        let ended = match period["end"].as_str() {
            None if period["_end"].is_null() => Fact::Is(false),
            None => self.may(),
            Some(end) => self.before(span(end).1, now),
        };
        match ended {
            Fact::Is(ended) => Fact::All(vec![begun, Fact::Is(!ended)]),
            uncertain => Fact::All(vec![begun, uncertain]),
        }
    }

    fn actors(&mut self, json: &Value, deny: bool) -> Fact {
        let actors = items(&json["actor"]);
        if actors.is_empty() {
            return Fact::Is(true);
        }
        let (mut recipients, mut custodians, mut others) = (Vec::new(), Vec::new(), false);
        for actor in actors {
            let role = codes(&actor["role"]);
            let role = |code: &str| {
                role.contains(&format!("http://terminology.hl7.org/CodeSystem/v3-ParticipationType|{code}"))
            };
            if role("IRCP") || role("PRCP") {
                let held_through = !deny && self.redisclosing() && self.directive() && tpo(json);
                let parties = self.ask.from.clone();
                let through = held_through && matches!(self.party(&actor["reference"], &parties), Fact::Is(true));
                let parties = self.ask.to.clone();
                let own = self.party(&actor["reference"], &parties);
                recipients.push(if through { Fact::Is(true) } else { own });
            } else if role("CST") {
                let parties = self.ask.from.clone();
                custodians.push(self.party(&actor["reference"], &parties));
            } else {
                others = true;
            }
        }
        let custodian = if custodians.is_empty() { Fact::Is(true) } else { Fact::Some(custodians) };
        if others || (recipients.is_empty() && !deny) {
            recipients.push(self.may());
        }
        let recipient = if recipients.is_empty() { Fact::Is(true) } else { Fact::Some(recipients) };
        Fact::All(vec![recipient, custodian])
    }

    fn party(&mut self, name: &Value, parties: &[Value]) -> Fact {
        let local = |text: &str| text.strip_prefix("https://ehr.example/fhir/").unwrap_or(text).to_owned();
        let parties: Vec<String> = parties.iter().map(|party| local(text(party))).collect();
        let by_reference = name["reference"].as_str().map(|reference| {
            let reference = local(reference);
            let sort = |reference: &str| match reference.split_once('/').map(|(kind, _)| kind) {
                Some("Patient" | "Practitioner" | "RelatedPerson") => Some("individual"),
                Some("Organization") => Some("organization"),
                Some("Device") => Some("device"),
                _ => None,
            };
            let sorted = sort(&reference).is_some();
            if parties.contains(&reference) {
                Some(true)
            } else if sorted && parties.iter().any(|party| sort(party) == sort(&reference)) {
                Some(false)
            } else {
                None
            }
        });
        let by_identifier = name["identifier"].as_object().map(|identifier| {
            let (system, value) = (text(&identifier["system"]), text(&identifier["value"]));
            let prefix = format!("{system}|");
            let own: Vec<&str> = parties.iter().filter_map(|party| party.strip_prefix(&prefix)).collect();
            if own.is_empty() { None } else { Some(own.contains(&value)) }
        });
        let certain = match (by_reference, by_identifier) {
            (Some(Some(a)), Some(Some(b))) if a != b => None,
            (Some(Some(true)), _) | (_, Some(Some(true))) => Some(true),
            (Some(None), _) | (_, Some(None)) => None,
            (Some(Some(false)), _) | (_, Some(Some(false))) => Some(false),
            (None, None) => None,
        };
        certain.map_or_else(|| self.may(), Fact::Is)
    }

    fn actions(&mut self, json: &Value, deny: bool) -> Fact {
        self.alternatives(&json["action"], |reader, action| {
            let known = ["collect", "access", "use", "disclose", "correct"];
            let named = codes(action).into_iter().find_map(|code| {
                let code = code.strip_prefix("http://terminology.hl7.org/CodeSystem/consentaction|")?.to_owned();
                known.contains(&code.as_str()).then_some(code)
            });
            let Some(named) = named else { return reader.may() };
            let asked = reader.ask.action.as_str();
            let passing_on = |code: &str| code == "access" || code == "disclose";
            Fact::Is(named == asked || (passing_on(asked) && (passing_on(&named) || (deny && named == "use"))))
        })
    }

    fn purposes(&mut self, json: &Value) -> Fact {
        self.alternatives(&json["purpose"], |reader, purpose| {
            let system = purpose["system"] == "http://terminology.hl7.org/CodeSystem/v3-ActReason";
            let code = text(&purpose["code"]);
            let asked = kinds_of(&reader.ask.purpose);
            match code {
                _ if !system => reader.may(),
                "CLINTRCH" if asked.contains(&"HRESCH") => reader.may(),
                "CLINTRCH" => Fact::Is(false),
                _ if PURPOSES.iter().any(|(known, _)| *known == code) => Fact::Is(asked.contains(&code)),
                _ => reader.may(),
            }
        })
    }

    fn labels(&mut self, json: &Value, deny: bool) -> Fact {
        let stated: Vec<String> = items(&json["securityLabel"]).iter().map(label).collect();
        if stated.is_empty() {
            return Fact::Is(true);
        }
        let own = self.own_labels();
        let level = level_of(&own);
        let mut found = Vec::new();
        for label in &stated {
            found.push(match LEVELS.iter().position(|known| known == label) {
                _ if label == "?" => self.may(),
                Some(stated) if deny => Fact::Is(level >= stated),
                Some(stated) => Fact::Is(stated >= level),
                None if deny => self.denied(label, &own),
                None => Fact::Is(false),
            });
        }
        if !deny {
            let leaves = leaves(&own);
            let covered: Vec<bool> =
                leaves.iter().map(|leaf| stated.iter().any(|label| self.covers(label, leaf, &own))).collect();
            let closed: BTreeSet<String> = own.iter().flat_map(|label| closure(label)).collect();
            let touched = covered.contains(&true) || stated.iter().any(|label| closed.contains(label));
            let all = !covered.contains(&false) && level <= 4;
            found.push(match (touched, all) {
                (true, true) => Fact::Is(true),
                (true, false) => self.may(),
                (false, _) => Fact::Is(false),
            });
        }
        Fact::Some(found)
    }

    fn denied(&mut self, label: &str, own: &BTreeSet<String>) -> Fact {
        let closed: BTreeSet<String> = own.iter().flat_map(|label| closure(label)).collect();
        let substance = |labels: &BTreeSet<String>| labels.contains("ETH") || labels.contains("SUD");
        let wanted: BTreeSet<String> = closure(label).into_iter().collect();
        if closed.contains(label) {
            return Fact::Is(true);
        }
        if label == "NORDSCLCD" {
            return Fact::Is(false);
        }
        let coarser = leaves(own).iter().any(|leaf| wanted.contains(leaf));
        let other_name = (label == "ETH" && substance(&closed)) || (closed.contains("ETH") && substance(&wanted));
        if coarser || other_name || own.contains("?") { self.may() } else { Fact::Is(false) }
    }

    fn covers(&self, label: &str, leaf: &str, own: &BTreeSet<String>) -> bool {
        let substance = |label: &str| label == "42CFRPart2" || closure(label).iter().any(|c| c == "ETH" || c == "SUD");
        let note = |label: &str| label == "PSYTHPN" || label == "HIPAAPsyNotes";
        closure(leaf).iter().any(|kind| kind == label)
            || (label == "42CFRPart2" && substance(leaf))
            || (leaf == "42CFRPart2" && substance(label) && self.directive())
            || (note(label) && note(leaf))
            || (note(label) && own.iter().any(|own| note(own)) && self.directive() && substance(leaf))
    }

    fn own_labels(&self) -> BTreeSet<String> {
        let known = |code: &String| if code.contains("unknown") { "?".to_owned() } else { code.clone() };
        self.ask.labels.iter().map(known).collect()
    }

    fn classes(&mut self, json: &Value) -> Fact {
        self.alternatives(&json["class"], |reader, class| {
            if class["system"] == "http://hl7.org/fhir/resource-types" {
                return Fact::Is(text(&class["code"]) == reader.ask.kind);
            }
            match reader.carries(class) {
                Fact::Is(true) => Fact::Is(true),
                _ => reader.may(),
            }
        })
    }

    fn coded(&mut self, json: &Value) -> Fact {
        self.alternatives(&json["code"], |reader, concept| match items(&concept["coding"]).first() {
            None => reader.may(),
            Some(coding) => reader.carries(coding),
        })
    }

    fn carries(&mut self, coding: &Value) -> Fact {
        let code = format!("{}|{}", text(&coding["system"]), text(&coding["code"]));
        match &self.ask.codes {
            None => self.may(),
            Some(codes) => Fact::Is(codes.contains(&code)),
        }
    }

    fn data(&mut self, json: &Value) -> Fact {
        self.alternatives(&json["data"], |reader, data| {
            let named = text(&data["reference"]["reference"]).to_owned();
            let among = |list: &Option<Vec<String>>| list.as_ref().map(|list| list.contains(&named));
            let itself = reader.ask.instance.as_ref().map(|own| *own == named);
            let certain = match text(&data["meaning"]) {
                "instance" => itself,
                "related" => itself.filter(|same| *same),
                "dependents" => match (itself, among(&reader.ask.references)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
                "authoredby" => among(&reader.ask.authors),
                _ => None,
            };
            certain.map_or_else(|| reader.may(), Fact::Is)
        })
    }

    fn data_period(&mut self, json: &Value, deny: bool) -> Fact {
        let period = &json["dataPeriod"];
        if period.is_null() {
            return Fact::Is(true);
        }
        let Some([start, end]) = self.ask.time.clone() else { return self.may() };
        let bound = |text: Option<&str>, first: bool| text.map(|text| if first { span(text).0 } else { span(text).1 });
        let own = (bound(start.as_deref(), true), bound(end.as_deref(), false));
        let stated = (bound(period["start"].as_str(), true), bound(period["end"].as_str(), false));
        let at_most = |reader: &mut Self, a: Option<Moment>, b: Option<Moment>, open: bool| match (a, b) {
            (Some(a), Some(b)) => reader.before(a, b),
            _ => Fact::Is(open),
        };
        let disjoint = [at_most(self, stated.1, own.0, false), at_most(self, own.1, stated.0, false)];
        let apart = disjoint.iter().any(|fact| matches!(fact, Fact::Is(true)));
        let together = disjoint.iter().all(|fact| matches!(fact, Fact::Is(false)));
        let within = [
            stated.0.map_or(Fact::Is(true), |from| own.0.map_or(Fact::Is(false), |own| self.before(from, own))),
            stated.1.map_or(Fact::Is(true), |to| own.1.map_or(Fact::Is(false), |own| self.before(own, to))),
        ];
        if apart {
            Fact::Is(false)
        } else if (deny && together) || (!deny && within.iter().all(|fact| matches!(fact, Fact::Is(true)))) {
            Fact::Is(true)
        } else {
            self.may()
        }
    }

    fn alternatives(&mut self, list: &Value, read: impl Fn(&mut Self, &Value) -> Fact) -> Fact {
        let list = items(list);
        if list.is_empty() { Fact::Is(true) } else { Fact::Some(list.iter().map(|item| read(self, item)).collect()) }
    }

    fn directive(&self) -> bool {
        let category = items(&self.consent["category"]).iter().flat_map(codes);
        let directive = "http://terminology.hl7.org/CodeSystem/v3-ActCode|42CFRPart2CD";
        category.chain(codes(&self.consent["policyRule"])).any(|code| code == directive)
    }

    fn redisclosing(&self) -> bool {
        let asked = kinds_of(&self.ask.purpose);
        let tpo = ["TREAT", "HPAYMT", "HOPERAT"].iter().any(|purpose| asked.contains(purpose));
        self.ask.role == "recipient" && tpo && !asked.contains(&"HLEGAL")
    }

    /// May this path of permits count?
    fn sufficient(&self, path: &[&Value]) -> bool {
        let (consent, ask) = (self.consent, self.ask);
        let asked = kinds_of(&ask.purpose);
        let own: BTreeSet<String> = self.own_labels().iter().flat_map(|label| closure(label)).collect();
        let note = own.contains("PSYTHPN") || own.contains("HIPAAPsyNotes");
        let part2 = own.contains("42CFRPart2") || own.contains("ETH") || own.contains("SUD");
        if !codes(&consent["scope"]).iter().any(|scope| scope.ends_with("|patient-privacy")) {
            return false;
        }
        for category in items(&consent["category"]).iter().flat_map(codes) {
            let Some(code) = category.strip_prefix("http://terminology.hl7.org/CodeSystem/consentcategorycodes|")
            else {
                continue;
            };
            let reached = match code {
                "acd" | "dnr" | "hcd" | "polst" | "npp" => false,
                "emrgonly" => asked.contains(&"ETREAT"),
                "research" | "rsdid" | "rsreid" => asked.contains(&"HRESCH"),
                _ => true,
            };
            if !reached {
                return false;
            }
        }
        let now = OffsetDateTime::parse(&ask.now, &Rfc3339).unwrap();
        let signed = consent["dateTime"].as_str().map(|at| span(at).0);
        let east = Duration::hours(self.zone()[1]);
        let today = PrimitiveDateTime::new(now.date(), now.time());
        if signed.is_some_and(|signed| (if signed.floats { signed.at - east } else { signed.at }) > today) {
            return false;
        }
        let mut permits = Vec::new();
        permitting(&consent["provision"], Vec::new(), self.base_permits(), &mut permits);
        if note && !permits.iter().all(|path| only(path, "securityLabel", &["PSYTHPN", "HIPAAPsyNotes"])) {
            return false;
        }
        if part2 && asked.contains(&"HLEGAL") && !permits.iter().all(|path| only(path, "purpose", &["HLEGAL"])) {
            return false;
        }
        !part2 || self.redisclosing() || self.complete(path)
    }

    fn base_permits(&self) -> bool {
        self.base() == "permit" || codes(&self.consent["policyRule"]).iter().any(|code| code.ends_with("|EMRGONLY"))
    }

    fn complete(&self, path: &[&Value]) -> bool {
        let (consent, ask) = (self.consent, self.ask);
        let about = |label: &Value| ["42CFRPart2", "ETH", "SUD", "ETHUD", "OPIOIDUD"].contains(&text(&label["code"]));
        let described = self.directive() || path.iter().any(|rule| items(&rule["securityLabel"]).iter().any(about));
        let recipient = path.iter().any(|rule| {
            items(&rule["actor"]).iter().flat_map(|actor| codes(&actor["role"])).any(|role| role.ends_with("|IRCP"))
        });
        let purpose = path.iter().any(|rule| !rule["purpose"].is_null());
        let expires = path.iter().any(|rule| rule["period"]["end"].is_string());
        let single = path.iter().rev().find(|rule| !rule["purpose"].is_null()).is_some_and(|rule| tpo(rule));
        let checks: Vec<bool> = items(&consent["verification"]).iter().map(|check| check["verified"] == true).collect();
        let verified = checks.contains(&true);
        let source = !consent["sourceReference"].is_null();
        let signed = if ask.verified {
            verified
        } else if ask.sourced {
            verified || source
        } else if ask.unsigned {
            true
        } else {
            verified || (checks.is_empty() && (source || !consent["performer"].is_null()))
        };
        described
            && (recipient || (single && ask.tpo_class))
            && purpose
            && (expires || (single && !ask.tpo_expires))
            && signed
            && !consent["dateTime"].is_null()
    }
}

/// One way in which everything uncertain may be.
struct World<'w, 'a> {
    reader: &'w Reader<'a>,
    world: u32,
    /// A nested rule may restate which data it is about.
    restating: bool,
}

impl World<'_, '_> {
    fn holds(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Is(fact) => *fact,
            Fact::May(at) => self.world >> at & 1 == 1,
            Fact::All(facts) => facts.iter().all(|fact| self.holds(fact)),
            Fact::Some(facts) => facts.iter().any(|fact| self.holds(fact)),
        }
    }

    fn rule(&self, rule: &Rule<'_>, unmet: &BTreeSet<&'static str>, above: &[&Value]) -> Verdict {
        if !rule.who.iter().all(|fact| self.holds(fact)) {
            return Verdict::Silent;
        }
        let mut unmet = unmet.clone();
        for (element, stated, fact) in &rule.what {
            if !self.holds(fact) {
                unmet.insert(element);
            } else if *stated {
                unmet.remove(element);
            }
        }
        if !unmet.is_empty() && !self.restating {
            return Verdict::Silent;
        }
        let path: Vec<&Value> = above.iter().copied().chain([rule.json]).collect();
        let nested: Vec<Verdict> = rule.except.iter().map(|rule| self.rule(rule, &unmet, &path)).collect();
        if nested.contains(&Verdict::Deny) {
            Verdict::Deny
        } else if nested.contains(&Verdict::Permit) {
            Verdict::Permit
        } else if !unmet.is_empty() {
            Verdict::Silent
        } else {
            match rule.decides {
                "deny" => Verdict::Deny,
                "permit" if self.reader.sufficient(&path) => Verdict::Permit,
                _ => Verdict::Silent,
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    at: PrimitiveDateTime,
    /// Written without an offset.
    floats: bool,
}

/// The first instant of a FHIR date, and the first after it. An instant with an offset is put into UTC.
fn span(text: &str) -> (Moment, Moment) {
    if text.contains('T') {
        let at = OffsetDateTime::parse(text, &Rfc3339).unwrap().to_offset(UtcOffset::UTC);
        let at = PrimitiveDateTime::new(at.date(), at.time());
        let moment = |at| Moment { at, floats: false };
        return (moment(at), moment(at + Duration::seconds(1)));
    }
    let day = format_description!("[year]-[month]-[day]");
    let first = Date::parse(&format!("{text}-01-01")[..10], day).unwrap();
    let after = match text.len() {
        4 => first.replace_year(first.year() + 1).unwrap(),
        7 => first + Duration::days(i64::from(first.month().length(first.year()))),
        _ => first + Duration::DAY,
    };
    let moment = |date: Date| Moment { at: date.midnight(), floats: true };
    (moment(first), moment(after))
}

const LEVELS: [&str; 6] = ["U", "L", "M", "N", "R", "V"];

const PURPOSES: [(&str, &str); 14] = [
    ("TREAT", ""),
    ("ETREAT", "TREAT"),
    ("BTG", "ETREAT"),
    ("COC", "TREAT"),
    ("HPAYMT", ""),
    ("HOPERAT", ""),
    ("HLEGAL", "HOPERAT"),
    ("CAREMGT", "HOPERAT"),
    ("HQUALIMP", "HOPERAT"),
    ("HRESCH", ""),
    ("PATRQT", ""),
    ("FAMRQT", "PATRQT"),
    ("PUBHLTH", ""),
    ("HMARKT", ""),
];

/// The purpose and all above it.
fn kinds_of(purpose: &str) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let mut at = purpose;
    while let Some((code, above)) = PURPOSES.iter().find(|(code, _)| *code == at) {
        kinds.push(*code);
        at = above;
    }
    kinds
}

/// The label and all that it is a kind of.
fn closure(label: &str) -> Vec<String> {
    let above = match label {
        "ETHUD" | "OPIOIDUD" => Some("SUD"),
        "SUD" | "BH" | "MH" | "PSY" | "PSYTHPN" => Some("SPI"),
        "COGN" | "DVD" | "EMOTDIS" => Some("BH"),
        _ => None,
    };
    let mut all = vec![label.to_owned()];
    all.extend(above.into_iter().flat_map(closure));
    all
}

/// The sensitive labels that no other label is a kind of.
fn leaves(own: &BTreeSet<String>) -> Vec<String> {
    let all: BTreeSet<String> = own.iter().flat_map(|label| closure(label)).collect();
    let sensitive = |label: &&String| !LEVELS.contains(&label.as_str()) && *label != "NORDSCLCD";
    let implied = |label: &String| all.iter().any(|other| other != label && closure(other).contains(label));
    all.iter().filter(sensitive).filter(|label| !implied(label)).cloned().collect()
}

fn level_of(own: &BTreeSet<String>) -> usize {
    let stated = LEVELS.iter().rposition(|level| own.contains(*level));
    let least = if leaves(own).is_empty() { 3 } else { 4 };
    stated.map_or(least, |stated| stated.max(least))
}

/// A label of a known system, or `?`.
fn label(coding: &Value) -> String {
    let (system, code) = (text(&coding["system"]), text(&coding["code"]));
    let level = system.ends_with("/v3-Confidentiality") && LEVELS.contains(&code);
    let known = [
        "ETH",
        "SUD",
        "ETHUD",
        "OPIOIDUD",
        "SPI",
        "BH",
        "MH",
        "PSY",
        "PSYTHPN",
        "COGN",
        "DVD",
        "EMOTDIS",
        "HIV",
        "42CFRPart2",
        "HIPAAPsyNotes",
        "NORDSCLCD",
    ];
    let content = system.ends_with("/v3-ActCode") && known.contains(&code);
    if level || content { code.to_owned() } else { "?".to_owned() }
}

fn tpo(rule: &Value) -> bool {
    let purposes: Vec<&str> = items(&rule["purpose"]).iter().map(|purpose| text(&purpose["code"])).collect();
    ["TREAT", "HPAYMT", "HOPERAT"].iter().all(|purpose| purposes.contains(purpose))
}

/// The paths of all rules that permit.
fn permitting<'a>(rule: &'a Value, above: Vec<&'a Value>, base: bool, found: &mut Vec<Vec<&'a Value>>) {
    let path: Vec<&Value> = above.into_iter().chain([rule]).collect();
    if rule["type"] == "permit" || (rule["type"].is_null() && base) {
        found.push(path.clone());
    }
    for nested in items(&rule["provision"]) {
        permitting(nested, path.clone(), false, found);
    }
}

/// Does the nearest rule on the path that states the element state these codes alone?
fn only(path: &[&Value], element: &str, allowed: &[&str]) -> bool {
    let nearest = path.iter().rev().find(|rule| !rule[element].is_null());
    nearest.is_some_and(|rule| items(&rule[element]).iter().all(|coding| allowed.contains(&text(&coding["code"]))))
}

fn codes(concept: &Value) -> Vec<String> {
    let code = |coding: &Value| format!("{}|{}", text(&coding["system"]), text(&coding["code"]));
    items(&concept["coding"]).iter().map(code).collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
