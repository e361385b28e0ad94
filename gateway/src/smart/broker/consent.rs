//! The consent page: what the app would get, in plain words, each part to be left out by a click.

use fhirwall_policy::partner::{Part2Basis, Partner};
use fhirwall_policy::scope::{Scope, ScopeContext};
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::provider::User;
use crate::smart::answer::{Answer, page};
use crate::smart::authorize::AuthorizeRequest;
use crate::smart::scopes::needs_patient;

/// What the page asks about. It travels sealed in the page's form.
#[derive(Clone, Serialize, Deserialize)]
pub struct Question {
    pub request: AuthorizeRequest,
    pub user: User,
    /// Whose record may be chosen; one of them is sent back.
    pub patients: Vec<PatientChoice>,
    /// There are more than the list shows.
    pub cut: bool,
    /// SHA-256 of the cookie that this page's browser has: a form sent from elsewhere lacks it.
    pub browser: [u8; 32],
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("request", &self.request).finish_non_exhaustive()
    }
}

/// What the user's own record is called.
pub(super) const OWN: &str = "your own";

/// One record that the user may open to the app.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientChoice {
    pub id: String,
    /// As the user knows the patient.
    pub label: String,
}

impl std::fmt::Debug for PatientChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PatientChoice(..)")
    }
}

impl Question {
    /// Is it the user's own record that would be shared?
    fn is_of_own_record(&self) -> bool {
        matches!(self.patients.as_slice(), [only] if only.label == OWN)
    }

    /// May the user leave this scope out? Sign-on and launch scopes open nothing by themselves and stay.
    pub fn is_choice(scope: &str) -> bool {
        scope == "offline_access" || Scope::parse(scope).is_some()
    }
}

/// The page. `sealed` is the question; `form` the address that takes the answer.
pub fn show(question: &Question, partner: &Partner, sealed: &str, form: &str, cookie: &str) -> Answer {
    let scopes = &question.request.scopes;
    let content = html! {
        p { strong { (partner.name) } " asks to use health information on your behalf." }
        form method="post" action=(form) {
            input type="hidden" name="question" value=(sealed);
            @if needs_patient(scopes) { (patients(&question.patients, question.cut)) }
            fieldset {
                legend { "It would be able to:" }
                @for (at, scope) in scopes.iter().enumerate().filter(|(_, scope)| Question::is_choice(scope)) {
                    label {
                        input type="checkbox" name={ "scope-" (at) } value="on" checked;
                        " " (words(scope))
                    }
                }
                @if !scopes.iter().any(|scope| Question::is_choice(scope)) {
                    p { "Know who you are, and nothing else." }
                }
            }
            p class="small" {
                "Untick what you do not want to share. " (protected(partner.part2.basis, question.is_of_own_record()))
                " You can end this access at any time: ask whoever keeps the records."
            }
            button type="submit" name="answer" value="allow" { "Allow" }
            button type="submit" name="answer" value="deny" class="no" { "Do not allow" }
        }
        p class="small" { "You will go back to " (host(&question.request.redirect_uri)) "." }
    };
    let mut answer = page(StatusCode::OK, &format!("Share with {}?", partner.name), content);
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

/// What becomes of 42 CFR Part 2 records and other specially protected ones, as this app is registered.
const fn protected(basis: Part2Basis, own: bool) -> &'static str {
    match basis {
        Part2Basis::Patient if own => {
            "This includes records of treatment for substance use, and others that the law protects specially, since the \
             app shows them to you alone."
        }
        Part2Basis::Consent => {
            "Records of treatment for substance use, and others that the law protects specially, are shared only with a \
             separate written consent."
        }
        // 42 CFR 2.23 is the patient's own access.
        Part2Basis::None | Part2Basis::Patient => {
            "Records of treatment for substance use, and others that the law protects specially, are not shared."
        }
        Part2Basis::Program | Part2Basis::Research | Part2Basis::Audit | Part2Basis::CourtOrder => {
            "Records of treatment for substance use, and others that the law protects specially, are shared only as far \
             as the law lets this app have them."
        }
    }
}

fn patients(choices: &[PatientChoice], cut: bool) -> Markup {
    html! {
        @match choices {
            [] => { p { "No patient record is linked to you, so no patient's information can be shared." } },
            [only] => { p { "Whose record: " strong { (only.label) } input type="hidden" name="patient" value=(only.id); } },
            several => {
                fieldset {
                    legend { "Whose record?" }
                    @for choice in several {
                        label { input type="radio" name="patient" value=(choice.id) required; " " (choice.label) }
                    }
                    @if cut { p class="small" { "There are more; start from the patient's chart to open another one." } }
                }
            }
        }
    }
}

fn host(redirect_uri: &str) -> String {
    url::Url::parse(redirect_uri).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// A scope as a sentence.
pub fn words(scope: &str) -> String {
    let Some(read) = Scope::parse(scope) else {
        return match scope {
            "offline_access" => "Keep this access when you are not using the app".to_owned(),
            other => other.to_owned(),
        };
    };
    // The printed form is SMART v2, whatever was asked: `patient/Observation.rs?…`.
    let printed = read.to_string();
    let letters = printed.split_once('.').map_or("", |(_, rest)| rest.split('?').next().unwrap_or_default());
    let verbs: Vec<&str> = [("rs", "see"), ("c", "add"), ("u", "change"), ("d", "delete")]
        .into_iter()
        .filter(|(any, _)| letters.contains(|letter| any.contains(letter)))
        .map(|(_, verb)| verb)
        .collect();
    let whose = match read.context {
        ScopeContext::Patient => "",
        ScopeContext::User => ", of every patient whose record you can open",
        ScopeContext::System => ", of every patient",
    };
    let what = read.kind.map_or("health records of every kind", |kind| thing(kind.as_str()));
    let limit = if read.constraint.0.is_empty() {
        String::new()
    } else {
        let values: Vec<&str> =
            read.constraint.0.iter().map(|one| one.value.rsplit('|').next().unwrap_or_default()).collect();
        format!(" (only: {})", values.join(", "))
    };
    let mut sentence = format!("{} {what}{limit}{whose}", verbs.join(", "));
    if let Some(first) = sentence.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    sentence
}

fn thing(kind: &str) -> &str {
    match kind {
        "Patient" => "name, birth date, address and contact details",
        "Observation" => "test results, vital signs and other measurements",
        "Condition" => "health problems and diagnoses",
        "AllergyIntolerance" => "allergies",
        "MedicationRequest" => "prescriptions",
        "MedicationDispense" => "dispensed medicines",
        "MedicationStatement" => "medicines taken",
        "Medication" => "medicines",
        "Immunization" => "vaccinations",
        "Procedure" => "operations and procedures",
        "Encounter" => "visits and hospital stays",
        "DiagnosticReport" => "reports of examinations",
        "DocumentReference" => "letters and documents",
        "CarePlan" => "care plans",
        "CareTeam" => "care teams",
        "Goal" => "health goals",
        "Coverage" => "insurance",
        "Appointment" => "appointments",
        "Device" => "implants and devices",
        "FamilyMemberHistory" => "family's health history",
        "Consent" => "consents",
        "Practitioner" => "doctors' and nurses' details",
        "Organization" => "hospitals' and practices' details",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_records_are_promised_to_nobody_who_does_not_get_them() {
        let every = [
            Part2Basis::None,
            Part2Basis::Consent,
            Part2Basis::Patient,
            Part2Basis::Program,
            Part2Basis::Research,
            Part2Basis::Audit,
            Part2Basis::CourtOrder,
        ];
        for (basis, own) in every.into_iter().flat_map(|basis| [(basis, true), (basis, false)]) {
            let included = protected(basis, own).starts_with("This includes");
            assert_eq!(included, basis == Part2Basis::Patient && own, "{basis:?} {own}");
        }
    }

    #[test]
    fn scopes_are_told_in_plain_words() {
        for (scope, expected) in [
            ("patient/Observation.rs", "See test results, vital signs and other measurements"),
            ("patient/*.cruds", "See, add, change, delete health records of every kind"),
            ("patient/Condition.read", "See health problems and diagnoses"),
            ("user/AllergyIntolerance.u", "Change allergies, of every patient whose record you can open"),
            (
                "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
                "See test results, vital signs and other measurements (only: laboratory)",
            ),
            ("offline_access", "Keep this access when you are not using the app"),
        ] {
            assert_eq!(words(scope), expected);
        }
    }
}
