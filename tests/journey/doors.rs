//! The doors: who is not let in, and that the EHR then receives nothing.

use fhirwall::demo::authorization_server::Flaw;
use http::Method;

use crate::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_a_flaw_are_refused_and_the_ehr_hears_nothing() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
    stage.asked();
    let grant = stage.neighbours().grant(app);
    for flaw in [
        Flaw::WrongAudience,
        Flaw::NoAudience,
        Flaw::Expired,
        Flaw::NotYetValid,
        Flaw::NoExpiry,
        Flaw::WrongIssuer,
        Flaw::AlgNone,
        Flaw::Hs256WithPublicKey,
        Flaw::BrokenSignature,
        Flaw::ChangedClaims,
        Flaw::IdToken,
        Flaw::ForeignKey,
    ] {
        let token = stage.neighbours().issuer.mint_flawed(&grant, flaw).unwrap();
        let reply = app.client.get(&stage.url("/Patient/amara-osei"), &token).await.unwrap();
        assert_eq!(reply.status, 401, "{flaw:?}: {}", reply.text());
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{flaw:?}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{flaw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_no_handshake() {
    let stage = Stage::set().await;
    let anonymous = stage.neighbours().anonymous().unwrap();
    let token = &stage.neighbours().treatment.token;
    assert!(anonymous.get(&stage.url("/Patient/amara-osei"), token).await.is_err());
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_partners_certificate_opens_nothing() {
    let stage = Stage::set().await;
    let token = &stage.neighbours().treatment.token;
    let other = &stage.neighbours().research.client;
    let reply = other.get(&stage.url("/Patient/amara-osei"), token).await.unwrap();
    // The token is bound to the other certificate (RFC 8705 3): it is no token on this connection.
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unbound_token_on_another_partners_certificate_is_forbidden() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    let mut grant = stage.neighbours().grant(app);
    grant.x5t_s256 = None;
    let token = stage.neighbours().issuer.mint(&grant).unwrap();
    let own = app.client.get(&stage.url("/Patient/amara-osei"), &token).await.unwrap();
    assert_eq!(own.status, 200, "{}", own.text());
    stage.asked();
    let reply = stage.neighbours().research.client.get(&stage.url("/Patient/amara-osei"), &token).await.unwrap();
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("certificate-mismatch"));
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_two_readings_are_refused_and_the_ehr_hears_nothing() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    assert_eq!(stage.treatment("/Patient?_id=amara-osei").await.status, 200);
    stage.asked();
    for (below, status) in [
        ("/Patient/../Patient/amara-osei", 400),
        ("/Patient/%2e%2e/Patient/amara-osei", 400),
        ("/Patient%2Famara-osei", 400),
        ("//Patient/amara-osei", 400),
        ("/Patient/amara-osei/", 400),
        ("/patient/amara-osei", 404),
        ("/Patient?_format=xml", 406),
        ("/Patient?_id=amara-osei&shoe-size=43", 400),
        ("/Patient?_id=amara-osei&_summary=count", 400),
        ("/Patient?access_token=x", 400),
        ("/Patient/amara-osei/$no-such-operation", 404),
    ] {
        let reply = app.client.get(&stage.url(below), &app.token).await;
        let Ok(reply) = reply else { panic!("{below}: {reply:?}") };
        assert_eq!(reply.status, status, "{below}: {}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new(), "{below}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_fhir_does_not_use_are_refused() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    for method in ["TRACE", "PROPFIND"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reply = app
            .client
            .send(
                method.clone(),
                &stage.url("/Patient/amara-osei"),
                &[("authorization", &format!("Bearer {}", app.token))],
                Vec::new(),
            )
            .await;
        assert!(reply.is_ok_and(|reply| reply.status == 405), "{method}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{method}");
    }
}
