//! Laws that hold for all consents and questions.

use fhirwall_policy::consent::{ConsentOutcome, ConsentRecord, evaluate, explain, scopes};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::case::{self, Ask, Short, ShortRule};
use super::model;

fn some_of(items: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(items, 0..=most).prop_map(|items| items.into_iter().map(str::to_owned).collect())
}

fn date() -> impl Strategy<Value = Option<String>> {
    const DATES: &[&str] =
        &["2025", "2026-01-01", "2026-05", "2026-06-15", "2026-06-15T14:00:00+02:00", "2026-12-31", "2027"];
    prop_oneof![3 => Just(None), 2 => select(DATES).prop_map(|at| Some(at.to_owned()))]
}

fn period() -> impl Strategy<Value = Option<[Option<String>; 2]>> {
    let period =
        (date(), date()).prop_filter_map("a period is not empty and in order", |(start, end)| match (&start, &end) {
            (None, None) => None,
            (Some(a), Some(b)) if a[..4] > b[..4] || (a.len() > 4 && b.len() > 4 && a.get(..7) > b.get(..7)) => None,
            _ => Some([start, end]),
        });
    prop_oneof![3 => Just(None), 1 => period.prop_map(Some)]
}

fn rule(depth: u32) -> BoxedStrategy<ShortRule> {
    let own = (
        prop_oneof![5 => Just(Some("permit".to_owned())), 5 => Just(Some("deny".to_owned())), 1 => Just(None)],
        period(),
        some_of(&["Organization/app", "Organization/other", "urn:npi|123", "Practitioner/x", "Group/g"], 2),
        some_of(&["Organization/hospital", "Organization/clinic"], 1),
        some_of(&["TREAT", "ETREAT", "HPAYMT", "HOPERAT", "HLEGAL", "HRESCH", "CLINTRCH", "urn:x|FooBar"], 4),
        some_of(
            &["N", "R", "V", "SUD", "ETH", "ETHUD", "42CFRPart2", "HIV", "PSYTHPN", "SPI", "NORDSCLCD", "urn:x|Y"],
            3,
        ),
        some_of(&["Condition", "Observation"], 1),
        some_of(&["http://snomed.info/sct|1", "http://snomed.info/sct|2"], 1),
        period(),
        (some_of(&["disclose", "access", "use", "collect"], 2), prop::bool::weighted(0.08)),
    );
    let own = own.prop_flat_map(|all| (Just(all), prop::collection::vec(prop::bool::weighted(0.4), 7)));
    let exceptions =
        if depth == 0 { Just(Vec::new()).boxed() } else { prop::collection::vec(rule(depth - 1), 0..=2).boxed() };
    (own, exceptions)
        .prop_map(|((all, keep), except)| {
            let (kind, period, to, from, purpose, label, class, code, data_period, (action, odd)) = all;
            let kept = |at: usize, list: Vec<String>| if keep[at] { list } else { Vec::new() };
            let values = |list: Vec<String>| list.into_iter().map(Value::from).collect();
            let mut raw = serde_json::Map::new();
            if odd {
                raw.insert("documentType".into(), json!([{"code": "x"}]));
            }
            if kind.is_none() {
                // An object without any element is no legal JSON of FHIR.
                raw.insert("id".into(), json!("untyped"));
            }
            ShortRule {
                r#type: kind,
                period: if keep[0] { period } else { None },
                to: values(kept(1, to)),
                from: values(if keep[2] && keep[3] { from } else { Vec::new() }),
                action: kept(2, action),
                purpose: kept(3, purpose),
                label: kept(4, label),
                class: kept(5, class),
                code: if keep[5] && keep[6] { code } else { Vec::new() },
                data_period: if keep[6] { data_period } else { None },
                data: Vec::new(),
                except,
                raw,
            }
        })
        .boxed()
}

fn consent() -> impl Strategy<Value = Short> {
    (
        prop_oneof![8 => Just("active"), 1 => Just("inactive"), 1 => Just("rejected")],
        prop_oneof![8 => Just("patient-privacy"), 1 => Just("research"), 1 => Just("treatment"), 1 => Just("odd")],
        some_of(&["npp", "emrgonly", "research"], 1).prop_flat_map(|c| prop_oneof![5 => Just(Vec::new()), 1 => Just(c)]),
        any::<bool>(),
        prop_oneof![6 => Just("Patient/a"), 1 => Just("Patient/b")],
        prop_oneof![4 => Just(None), 1 => Just(Some("2027-01-01".to_owned()))],
        prop_oneof![4 => Just(None), 1 => select(&["OPTIN", "OPTOUT", "EMRGONLY", "NOPP"][..]).prop_map(|c| Some(c.to_owned()))],
        prop::option::weighted(0.9, rule(2)),
    )
        .prop_map(|(status, scope, category, part2, patient, date_time, policy_rule, provision)| Short {
            status: Some(status.into()),
            scope: Some(scope.into()),
            category,
            part2,
            patient: Some(patient.into()),
            date_time,
            policy_rule,
            provision,
            ..Short::default()
        })
}

fn permit() -> ShortRule {
    ShortRule { r#type: Some("permit".into()), ..ShortRule::default() }
}

fn consents() -> impl Strategy<Value = Vec<Short>> {
    prop::collection::vec(consent(), 0..4).prop_map(|mut consents| {
        for (at, consent) in consents.iter_mut().enumerate() {
            consent.id = Some(format!("c{at}"));
        }
        consents
    })
}

const RECIPIENTS: &[&[&str]] = &[&["Organization/app"], &["urn:npi|123"], &["Organization/app", "Practitioner/y"]];
const CUSTODIANS: &[&[&str]] = &[&[], &["Organization/hospital"]];

fn ask() -> impl Strategy<Value = Ask> {
    (
        select(RECIPIENTS),
        select(CUSTODIANS),
        select(&["TREAT", "ETREAT", "HPAYMT", "HLEGAL", "HRESCH", "CAREMGT"][..]),
        some_of(&["N", "R", "V", "SUD", "ETHUD", "ETH", "42CFRPart2", "HIV", "PSYTHPN", "NORDSCLCD", "urn-unknown"], 3),
        select(&["2026-06-15T12:00:00Z", "2026-06-16T05:00:00Z", "2025-12-31T23:00:00Z", "2027-01-01T06:00:00Z"][..]),
        select(&["disclose", "access", "use"][..]),
        prop::option::of((date(), date())),
        prop::option::of(some_of(&["http://snomed.info/sct|1"], 1)),
        any::<[bool; 6]>(),
    )
        .prop_map(|(to, from, purpose, labels, now, action, time, codes, flags)| Ask {
            to: to.iter().map(|party| json!(party)).collect(),
            from: from.iter().map(|party| json!(party)).collect(),
            purpose: purpose.into(),
            labels,
            now: now.into(),
            action: action.into(),
            time: time.map(|(start, end)| [start, end]),
            codes,
            role: if flags[0] { "recipient" } else { "program" }.into(),
            utc: flags[1],
            unsigned: flags[2] && flags[3],
            tpo_class: flags[4],
            tpo_expires: flags[5],
            ..Ask::default()
        })
}

fn texts(consents: &[Short]) -> Vec<String> {
    consents.iter().enumerate().map(|(at, short)| short.spelled_out(at)).collect()
}

fn outcome(texts: &[String], ask: &Ask) -> ConsentOutcome {
    let book = case::book(texts);
    ask.with(|question| evaluate(&book, question))
}

fn rank(outcome: &ConsentOutcome) -> u8 {
    match outcome {
        ConsentOutcome::Permit { .. } => 0,
        ConsentOutcome::Silent => 1,
        ConsentOutcome::Deny { .. } => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_slow_model(consents in consents(), ask in ask()) {
        let texts = texts(&consents);
        let parsed: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        for text in &texts {
            prop_assert!(ConsentRecord::parse(text.as_bytes()).is_ok(), "{text}");
        }
        prop_assume!(model::is_tractable(&parsed, &ask));
        let expected = model::word(model::outcome(&parsed, &ask));
        prop_assert_eq!(case::word(&outcome(&texts, &ask)), expected);
    }

    #[test]
    fn order_never_matters(consents in consents(), ask in ask(), turn in 0usize..4) {
        let texts = texts(&consents);
        let mut turned = texts.clone();
        turned.rotate_left(turn.min(texts.len()));
        let mut reversed: Vec<String> = texts.clone();
        reversed.reverse();
        let expected = outcome(&texts, &ask);
        prop_assert_eq!(&outcome(&turned, &ask), &expected);
        prop_assert_eq!(&outcome(&reversed, &ask), &expected);
    }

    #[test]
    fn order_of_exceptions_and_repeats_never_matters(consents in consents(), ask in ask()) {
        let mut reversed = consents.clone();
        reversed.iter_mut().filter_map(|consent| consent.provision.as_mut()).for_each(reverse);
        prop_assert_eq!(outcome(&texts(&consents), &ask), outcome(&texts(&reversed), &ask));
    }

    #[test]
    fn adding_a_denial_never_widens(consents in consents(), ask in ask(), denial in rule(0), place in any::<prop::sample::Index>()) {
        let denial = ShortRule { r#type: Some("deny".into()), ..denial };
        let before = rank(&outcome(&texts(&consents), &ask));
        let mut beside = consents.clone();
        beside.push(Short { id: Some("extra".into()), provision: Some(denial.clone()), ..Short::default() });
        prop_assert!(rank(&outcome(&texts(&beside), &ask)) >= before);
        let mut within = consents.clone();
        if !within.is_empty() {
            let at = place.index(within.len());
            if let Some(provision) = within[at].provision.as_mut() {
                deepest(provision, place.index(3)).except.push(denial);
            }
        }
        prop_assert!(rank(&outcome(&texts(&within), &ask)) >= before);
    }

    #[test]
    fn a_consent_that_is_not_in_force_changes_nothing(consents in consents(), ask in ask(), extra in consent(), how in 0u8..3) {
        let mut extra = Short { id: Some("extra".into()), ..extra };
        match how {
            0 => extra.status = Some("inactive".into()),
            1 => extra.patient = Some("Patient/b".into()),
            _ => {
                let mut provision = extra.provision.unwrap_or_else(permit);
                provision.period = Some([None, Some("2024-12-31".into())]);
                extra.provision = Some(provision);
            }
        }
        let before = outcome(&texts(&consents), &ask);
        let mut more = consents;
        more.push(extra);
        prop_assert_eq!(outcome(&texts(&more), &ask), before);
    }

    #[test]
    fn an_unreadable_consent_always_denies(consents in consents(), ask in ask()) {
        let mut texts = texts(&consents);
        texts.push(r#"{"resourceType":"Consent","id":"odd"}"#.to_owned());
        let denied = matches!(outcome(&texts, &ask), ConsentOutcome::Deny { .. });
        prop_assert!(denied);
    }

    #[test]
    fn one_patients_consents_never_serve_another(consents in consents(), ask in ask()) {
        let other = Ask { patient: "b".into(), ..ask };
        let denied = ConsentOutcome::Deny { consents: Vec::new() };
        prop_assert_eq!(outcome(&texts(&consents), &other), denied);
    }

    #[test]
    fn knowing_less_never_widens(consents in consents(), ask in ask()) {
        let texts = texts(&consents);
        let less = Ask { time: None, codes: None, from: Vec::new(), ..ask.clone() };
        let known = rank(&outcome(&texts, &ask));
        prop_assert!(rank(&outcome(&texts, &less)) >= known);
    }

    #[test]
    fn an_explanation_and_a_scope_follow_the_outcome(consents in consents(), ask in ask()) {
        let book = case::book(&texts(&consents));
        ask.with(|question| {
            let outcome = evaluate(&book, question);
            let explained = explain(&book, question);
            assert_eq!(explained.outcome, outcome);
            let scopes = scopes(&book, question);
            assert_eq!(scopes.is_empty(), !matches!(outcome, ConsentOutcome::Permit { .. }));
            for scope in scopes {
                let text = scope.to_string();
                assert!(!text.contains("Patient/") && !text.contains("Organization/other"), "{text}");
            }
        });
    }

    #[test]
    fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(ConsentRecord::parse(&bytes));
    }

    #[test]
    fn parse_never_panics_on_what_is_nearly_a_consent(
        consent in consent(),
        at in any::<prop::sample::Index>(),
        with in select(&["\"", "{", "null", "\\u0000", "[]", "-"][..]),
        until in any::<prop::sample::Index>(),
    ) {
        let text = consent.spelled_out(0).into_bytes();
        let (from, to) = (at.index(text.len()), until.index(text.len()));
        let mut broken = text[..from.min(to)].to_vec();
        broken.extend_from_slice(with.as_bytes());
        broken.extend_from_slice(&text[from.max(to)..]);
        drop(ConsentRecord::parse(&broken));
    }
}

fn reverse(rule: &mut ShortRule) {
    rule.except.reverse();
    rule.to.reverse();
    rule.purpose.reverse();
    rule.label.reverse();
    rule.except.iter_mut().for_each(reverse);
}

fn deepest(rule: &mut ShortRule, depth: usize) -> &mut ShortRule {
    if depth == 0 || rule.except.is_empty() {
        return rule;
    }
    deepest(&mut rule.except[0], depth - 1)
}
