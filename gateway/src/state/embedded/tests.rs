use super::*;
use crate::clock::FixedClock;
use crate::state::LockdownScope;

fn state(sizes: Sizes) -> (EmbeddedState, FixedClock) {
    let clock = FixedClock::at(1_767_225_600);
    (EmbeddedState::new(Arc::new(clock.clone()), sizes), clock)
}

#[tokio::test]
async fn a_key_is_first_used_once_until_it_ends() {
    let (state, clock) = state(Sizes::default());
    let until = clock.now() + Duration::from_secs(60);
    assert_eq!(state.first_use("jti-1", until).await, Ok(true));
    assert_eq!(state.first_use("jti-1", until).await, Ok(false));
    assert_eq!(state.first_use("jti-2", until).await, Ok(true));
    clock.advance_seconds(60);
    assert_eq!(state.first_use("jti-1", clock.now() + Duration::from_secs(60)).await, Ok(true));
}

#[tokio::test]
async fn a_full_table_refuses_and_forgets_nothing() {
    let (state, clock) = state(Sizes { used_keys: 2, ..Sizes::default() });
    let until = clock.now() + Duration::from_secs(60);
    for key in ["a", "b"] {
        assert_eq!(state.first_use(key, until).await, Ok(true));
    }
    assert_eq!(state.first_use("c", until).await, Err(StateUnavailable::Full));
    assert_eq!(state.first_use("a", until).await, Ok(false));
    clock.advance_seconds(60);
    assert_eq!(state.first_use("c", clock.now() + Duration::from_secs(1)).await, Ok(true));
}

fn bearer<'a>() -> Bearer<'a> {
    let issuer = "https://idp";
    Bearer { issuer, token_id: "t1", sub: "u1", client_id: "app1", patient: Some("p1"), issued_at: None }
}

#[tokio::test]
async fn each_revocation_stops_its_own_and_no_other() {
    let (state, clock) = state(Sizes::default());
    let until = clock.now() + Duration::from_secs(60);
    let others = [
        Bearer { issuer: "https://x", client_id: "app2", ..bearer() },
        Bearer { token_id: "t2", sub: "u2", client_id: "app2", ..bearer() },
        Bearer { token_id: "t2", sub: "u2", client_id: "app2", patient: None, ..bearer() },
    ];
    for revocation in bearer().revocations() {
        assert_eq!(state.is_revoked(bearer()).await, Ok(false));
        state.revoke(revocation.clone(), until).await.unwrap();
        assert_eq!(state.is_revoked(bearer()).await, Ok(true), "{revocation:?}");
        for other in others {
            assert_eq!(state.is_revoked(other).await, Ok(false), "{revocation:?}");
        }
        state.restore(&revocation).await.unwrap();
    }
    state.revoke(Revocation::Partner { client_id: "app1".into() }, until).await.unwrap();
    clock.advance_seconds(60);
    assert_eq!(state.is_revoked(bearer()).await, Ok(false));
}

#[tokio::test]
async fn a_token_issued_after_its_user_was_revoked_is_good_and_one_revoked_itself_is_not() {
    let (state, clock) = state(Sizes::default());
    let until = clock.now() + Duration::from_secs(60);
    let later = Bearer { issued_at: Some(clock.now() + Duration::from_secs(1)), ..bearer() };
    let earlier = Bearer { issued_at: Some(clock.now()), ..bearer() };
    for revocation in bearer().revocations().skip(1) {
        state.revoke(revocation.clone(), until).await.unwrap();
        assert_eq!(state.is_revoked(later).await, Ok(false), "{revocation:?}");
        assert_eq!(state.is_revoked(earlier).await, Ok(true), "{revocation:?}");
        state.restore(&revocation).await.unwrap();
    }
    let token = Revocation::Token { issuer: "https://idp".into(), id: "t1".into() };
    state.revoke(token, until).await.unwrap();
    assert_eq!(state.is_revoked(later).await, Ok(true));
}

#[tokio::test]
async fn a_restart_lifts_no_lockdown_and_no_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FixedClock::at(1_767_225_600);
    let open = || EmbeddedState::kept_in(dir.path(), Arc::new(clock.clone()), Sizes::default());
    let until = clock.now() + Duration::from_secs(600);
    let lockdown = |id: &str, until| Lockdown {
        id: id.into(),
        scope: LockdownScope::Part2,
        until,
        reason: "suspected".into(),
        by: "officer".into(),
        spares_emergency: false,
    };
    let token = |id: &str| Revocation::Token { issuer: "https://idp".into(), id: id.into() };
    let bearer =
        |id| Bearer { issuer: "https://idp", token_id: id, sub: "u", client_id: "app", patient: None, issued_at: None };
    let state = open().unwrap();
    for id in ["kept", "lifted"] {
        state.lock_down(lockdown(id, until)).await.unwrap();
    }
    state.lock_down(lockdown("ended", clock.now() + Duration::from_secs(5))).await.unwrap();
    state.lift("lifted").await.unwrap();
    state.revoke(token("gone"), until).await.unwrap();
    state.revoke(token("back"), until).await.unwrap();
    state.restore(&token("back")).await.unwrap();
    drop(state);
    clock.advance_seconds(10);
    for _ in 0..2 {
        let state = open().unwrap();
        let ids: Vec<String> = state.lockdowns().await.unwrap().iter().map(|one| one.id.clone()).collect();
        assert_eq!(ids, ["kept"]);
        assert_eq!(state.is_revoked(bearer("gone")).await, Ok(true));
        assert_eq!(state.is_revoked(bearer("back")).await, Ok(false));
    }
    // What was cut off by a crash was never confirmed; what was changed by hand is not passed over.
    let file = dir.path().join("state.ndjson");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{{\"locked-d")).unwrap();
    assert_eq!(open().unwrap().lockdowns().await.unwrap().len(), 1);
    std::fs::write(&file, format!("nonsense\n{text}")).unwrap();
    assert!(open().is_err());
}

#[tokio::test]
async fn two_processes_that_overlap_follow_each_others_stops() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FixedClock::at(1_767_225_600);
    let until = clock.now() + Duration::from_secs(600);
    let lockdown = |id: &str| Lockdown {
        id: id.into(),
        scope: LockdownScope::Part2,
        until,
        reason: "suspected".into(),
        by: "officer".into(),
        spares_emergency: false,
    };
    let ids = async |state: &EmbeddedState| -> Vec<String> {
        state.lockdowns().await.unwrap().iter().map(|one| one.id.clone()).collect()
    };
    let old = EmbeddedState::kept_in(dir.path(), Arc::new(clock.clone()), Sizes::default()).unwrap();
    let token = Revocation::Token { issuer: "https://idp".into(), id: "t1".into() };
    old.lock_down(lockdown("before")).await.unwrap();
    let new = EmbeddedState::kept_beside(dir.path(), Arc::new(clock.clone()), Sizes::default()).unwrap();
    assert_eq!(ids(&new).await, ["before"]);
    old.revoke(token.clone(), until).await.unwrap();
    new.lock_down(lockdown("after")).await.unwrap();
    new.lift("before").await.unwrap();
    assert_eq!((new.is_revoked(bearer()).await, ids(&old).await), (Ok(false), vec!["before".to_owned()]));
    old.follow().unwrap();
    new.follow().unwrap();
    assert_eq!((ids(&old).await, ids(&new).await), (vec!["after".to_owned()], vec!["after".to_owned()]));
    assert_eq!(new.is_revoked(bearer()).await, Ok(true));
    new.restore(&token).await.unwrap();
    old.follow().unwrap();
    assert_eq!(old.is_revoked(bearer()).await, Ok(false));
    // And the process after both reads what either wrote.
    drop((old, new));
    let next = EmbeddedState::kept_in(dir.path(), Arc::new(clock.clone()), Sizes::default()).unwrap();
    assert_eq!((ids(&next).await, next.is_revoked(bearer()).await), (vec!["after".to_owned()], Ok(false)));
    // An unfinished change is the old one's to finish: a new process does not write behind it.
    let file = dir.path().join("state.ndjson");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{{\"locked-d")).unwrap();
    assert!(EmbeddedState::kept_beside(dir.path(), Arc::new(clock.clone()), Sizes::default()).is_err());
}

#[tokio::test]
async fn a_lockdown_holds_until_its_end_or_until_lifted() {
    let (state, clock) = state(Sizes::default());
    let lockdown = Lockdown {
        id: "l1".into(),
        scope: LockdownScope::Part2,
        until: clock.now() + Duration::from_secs(60),
        reason: "suspected mass export".into(),
        by: "officer".into(),
        spares_emergency: false,
    };
    state.lock_down(lockdown.clone()).await.unwrap();
    assert!(state.lockdowns().await.unwrap()[0].withholds_part2());
    assert_eq!(state.lift("l1").await, Ok(true));
    assert_eq!(state.lift("l1").await, Ok(false));
    state.lock_down(lockdown).await.unwrap();
    clock.advance_seconds(60);
    assert!(state.lockdowns().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_allowance_is_spent_and_refills() {
    let (state, clock) = state(Sizes::default());
    let allowance = Allowance { burst: 10, window: Duration::from_secs(10) };
    assert_eq!(state.spend("app", 4, allowance).await, Ok(Spending::Spent { left: 6 }));
    assert_eq!(state.spend("app", 6, allowance).await, Ok(Spending::Spent { left: 0 }));
    let refused = Spending::Refused { retry_after: Duration::from_secs(2) };
    assert_eq!(state.spend("app", 2, allowance).await, Ok(refused));
    assert_eq!(state.spend("other", 2, allowance).await, Ok(Spending::Spent { left: 8 }));
    clock.advance_seconds(2);
    assert_eq!(state.spend("app", 2, allowance).await, Ok(Spending::Spent { left: 0 }));
    let nothing = Allowance { burst: 0, window: Duration::from_secs(10) };
    assert!(matches!(state.spend("none", 1, nothing).await, Ok(Spending::Refused { .. })));
}

#[tokio::test]
async fn a_set_that_would_pass_its_limit_stays_as_it_was() {
    let (state, clock) = state(Sizes::default());
    let window = Duration::from_secs(3600);
    assert_eq!(state.add_distinct("u", &["a", "b", "a"], 3, window).await, Ok(Distinct::Added { size: 2 }));
    assert!(matches!(state.add_distinct("u", &["c", "d"], 3, window).await, Ok(Distinct::Refused { .. })));
    assert_eq!(state.add_distinct("u", &["b", "c"], 3, window).await, Ok(Distinct::Added { size: 3 }));
    assert_eq!(state.add_distinct("u", &["a"], 3, window).await, Ok(Distinct::Added { size: 3 }));
    clock.advance_seconds(3600);
    assert_eq!(state.add_distinct("u", &["d"], 3, window).await, Ok(Distinct::Added { size: 1 }));
}
