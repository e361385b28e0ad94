//! Which of the scopes asked for may be granted: never more than the partner is registered for.

use fhirwall_policy::scope::{Scope, ScopeSet};

/// Scopes that grant no resource, and are kept as they are asked.
const IDENTITY_AND_LAUNCH: [&str; 8] = [
    "openid",
    "fhirUser",
    "profile",
    "launch",
    "launch/patient",
    "launch/encounter",
    "online_access",
    "offline_access",
];

/// The scopes of a request, cut to what the partner is registered for. Unknown ones are left out.
///
/// Resource scopes come back in SMART v2 form, but a v1 scope that is granted whole stays as it was asked
/// (SMART App Launch 2.2, "Scopes for requesting FHIR Resources").
pub fn cut(requested: &str, registered: &[String]) -> Vec<String> {
    let ceiling = ScopeSet::parse(registered);
    let mut granted: Vec<String> = Vec::new();
    for asked in requested.split(' ').filter(|scope| !scope.is_empty()) {
        if IDENTITY_AND_LAUNCH.contains(&asked) {
            push(&mut granted, asked.to_owned());
            continue;
        }
        let own = ScopeSet::parse(&[asked]);
        let Some(whole) = own.iter().next() else { continue };
        for scope in own.within(&ceiling).iter() {
            if scope == whole && is_scope_token(asked) {
                push(&mut granted, asked.to_owned());
            } else if let Some(text) = printed(scope) {
                push(&mut granted, text);
            }
        }
    }
    granted
}

fn push(granted: &mut Vec<String>, scope: String) {
    if !granted.contains(&scope) {
        granted.push(scope);
    }
}

/// The text of a scope, if it reads back as the very same one: a value with a space or an ampersand in it would
/// otherwise come back as another scope.
fn printed(scope: &Scope) -> Option<String> {
    let text = scope.to_string();
    (is_scope_token(&text) && Scope::parse(&text).as_ref() == Some(scope)).then_some(text)
}

/// RFC 6749 section 3.3.
fn is_scope_token(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Does the set ask for a patient in context?
pub fn needs_patient(scopes: &[String]) -> bool {
    scopes.iter().any(|scope| scope == "launch/patient" || scope.starts_with("patient/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn cuts(requested: &str, registered: &[&str], expected: &str) {
        let registered: Vec<String> = registered.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(cut(requested, &registered).join(" "), expected);
    }

    #[test]
    fn nothing_beyond_the_registration_is_granted() {
        cuts("patient/Observation.rs", &["patient/*.rs"], "patient/Observation.rs");
        cuts("patient/*.cruds", &["patient/Observation.rs"], "patient/Observation.rs");
        cuts("user/Observation.rs", &["patient/*.cruds"], "");
        cuts("system/*.rs", &["patient/*.rs"], "");
        cuts("patient/Observation.sr", &["patient/*.cruds"], "");
        cuts("patient/Observation.rs", &[], "");
        cuts(
            "patient/Observation.rs",
            &["patient/Observation.rs?category=laboratory"],
            "patient/Observation.rs?category=laboratory",
        );
    }

    #[test]
    fn v1_scopes_stay_v1_when_granted_whole() {
        cuts("patient/Observation.read", &["patient/*.rs"], "patient/Observation.read");
        cuts("patient/Observation.*", &["patient/*.rs"], "patient/Observation.rs");
    }

    #[test]
    fn launch_and_identity_scopes_are_kept_and_unknown_ones_are_not() {
        cuts(
            "openid fhirUser launch/patient offline_access openid admin https://x/y",
            &["patient/*.rs"],
            "openid fhirUser launch/patient offline_access",
        );
    }

    #[test]
    fn a_value_cannot_smuggle_another_scope() {
        let registered = ["patient/*.rs", "patient/Observation.cruds"];
        for smuggled in ["patient/Observation.cruds?category=x%20patient/*.rs", "patient/*.rs?category=a%26b"] {
            let registered: Vec<String> = registered.iter().map(|&text| text.to_owned()).collect();
            for granted in cut(smuggled, &registered) {
                assert!(!granted.contains(' '), "{granted}");
                let read = Scope::parse(&granted).unwrap();
                assert!(!read.constraint.0.is_empty(), "widened: {granted}");
            }
        }
    }
}
