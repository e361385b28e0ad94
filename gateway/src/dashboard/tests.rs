use time::macros::datetime;

use super::*;
use crate::admin::Check;

fn board() -> Board {
    let partner = |client_id: &str, standing| PartnerLine {
        client_id: client_id.to_owned(),
        name: "Recovery <Path>".to_owned(),
        standing,
        purposes: "TREAT".to_owned(),
        part2: "Part 2: consent, marked".to_owned(),
        scopes: vec!["user/*.rs".to_owned()],
        used: vec!["read Patient".to_owned()],
        quotas: "50 requests a second".to_owned(),
        requests: 7,
        refused: 2,
        agreement_until: Some("2028-01-15".to_owned()),
        assessment_until: None,
        evidence_ended: true,
    };
    Board {
        now: datetime!(2026-11-22 12:00 UTC),
        version: "0.1.0",
        generation: 3,
        mode: "observe".to_owned(),
        rejected: Some("line 3: unknown key".to_owned()),
        checks: vec![Check { name: "audit".to_owned(), ready: false, detail: "free the disk".to_owned() }],
        findings: vec![FindingLine {
            control: "observe-mode".to_owned(),
            severity: "risk".to_owned(),
            subject: "mode".to_owned(),
            what: "nothing is enforced".to_owned(),
            waived_until: Some("2026-12-31".to_owned()),
        }],
        partners: vec![partner("recovery-path", Standing::Active), partner("portal", Standing::Suspended)],
        decisions: vec![DecisionLine {
            id: "0197".to_owned(),
            time: datetime!(2026-11-22 11:59 UTC),
            kind: "refusal".to_owned(),
            partner: "recovery-path".to_owned(),
            interaction: "read".to_owned(),
            resource_type: "Condition".to_owned(),
            status: Some(404),
            reason: Some("consent-denies".to_owned()),
            patients: 1,
            withheld: 2,
            emergency: false,
        }],
        minutes: vec![Minute { permitted: 3, refused: 1, withheld: 0 }; 60],
        refusals: vec![("consent-denies".to_owned(), 60)],
        audit_spread: vec![(0.001, 0), (0.0025, 41), (f64::INFINITY, 0)],
        redactions: vec![("42CFRPart2 resource".to_owned(), 4)],
        consents: vec![],
        risks: vec![],
        notices: vec![RiskLine {
            time: datetime!(2026-11-22 11:58 UTC),
            partner: "portal".to_owned(),
            decision: "0196".to_owned(),
            score: 62.4,
            called_for: "step-up".to_owned(),
            done: "observe".to_owned(),
            reasons: vec!["41 patients within the hour; 8 are usual".to_owned()],
        }],
        scores_in_shadow: true,
        lockdowns: vec![LockdownLine {
            id: "l1".to_owned(),
            what: "all Part 2 data".to_owned(),
            until: "2026-11-23T12:00:00Z".to_owned(),
            reason: "leak".to_owned(),
            by: "ops".to_owned(),
        }],
        audit_head: Some((41, "0123456789abcdef0123456789abcdef".to_owned())),
    }
}

const MAY_ALL: May = May { act: true, explain: true };
const MAY_LOOK: May = May { act: false, explain: false };

#[test]
fn the_page_shows_what_somebody_must_know_and_escapes_what_it_is_told() {
    let page = page(&board(), MAY_ALL, Some("done"));
    for told in [
        "generation 3",
        "observe",
        "free the disk",
        "not well",
        "Recovery &lt;Path&gt;",
        "suspended",
        "consent-denies",
        "/decisions/0197",
        "waived until 2026-12-31",
        "line 3: unknown key",
        "all Part 2 data",
        "180 permitted, 60 refused",
        "role=\"status\"",
        "0123456789ab",
        "41 patients within the hour; 8 are usual",
        "62 of 100",
        "called for: asked to authenticate anew",
        "60 refusals since the start: consent-denies 60.",
        "Half within 2.5 ms, 99 of 100 within 2.5 ms.",
    ] {
        assert!(page.contains(told), "{told}");
    }
    assert!(!page.contains("<script") && !page.contains("style=\"") && !page.contains("<Path>"));
}

#[test]
fn only_who_may_act_is_offered_to() {
    assert!(page(&board(), MAY_ALL, None).contains("<form"));
    assert!(!page(&board(), MAY_LOOK, None).contains("<form"));
}

#[test]
fn a_decision_is_opened_only_to_who_may_see_it_whole() {
    assert!(page(&board(), MAY_ALL, None).contains("href=\"/decisions/0197\""));
    let looked = page(&board(), MAY_LOOK, None);
    assert!(!looked.contains("href=\"/decisions/") && looked.contains("0197"));
}

#[test]
fn a_decision_is_shown_in_words_and_escaped() {
    let record = serde_json::json!({
        "decision": "0197", "partner": "<b>", "explanation": "it was\nforbidden", "patients": ["p1"], "labels": [],
        "withheld": [{"rule": "no-part2", "count": 2}], "facts": {"scope": "x"},
    });
    let page = explained(&board(), "0197", &record);
    for told in
        ["it was\nforbidden", "&lt;b&gt;", "p1", "rule: no-part2", "The facts it was decided on", "<dd>none</dd>"]
    {
        assert!(page.contains(told), "{told} is missing in {page}");
    }
    assert!(!page.contains("<b>0197") && !page.contains("<script") && !page.contains("style=\""));
}

#[test]
fn an_act_is_said_in_words_before_it_is_confirmed() {
    let act = Act::Suspend { client_id: "recovery-path".to_owned(), hours: 24, reason: "a \"leak\"".to_owned() };
    let asked = confirm(&board(), &act);
    assert!(
        asked.contains("Every request of partner recovery-path is refused from now on, on all replicas, for 24 hours.")
    );
    assert!(asked.contains("name=\"confirmed\" value=\"yes\"") && asked.contains("value=\"a &quot;leak&quot;\""));
    for act in [Act::WithholdPart2 { hours: 1, reason: "x".to_owned() }, Act::Lift { id: "l1".to_owned() }] {
        assert!(confirm(&board(), &act).contains(&act.sentence()));
    }
}
