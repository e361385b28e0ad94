//! What a thief, a curious partner or a careless one would try.

use http::{Method, StatusCode};

use super::Guide;
use crate::demo::authorization_server::Flaw;
use crate::demo::client::{HttpsClient, Reply};

impl Guide<'_> {
    /// A refusal, and why.
    pub(super) async fn refusal(&mut self) -> anyhow::Result<()> {
        self.screen.stop("A refusal says why");
        self.screen.say("The clinician's token was given for reading and searching. It is used to create a condition.");
        let url = format!("{}/Condition", self.world.base_url());
        let authorization = format!("Bearer {}", self.world.treatment.token);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
        let body = r#"{"resourceType":"Condition","subject":{"reference":"Patient/bruno-vale"}}"#;
        self.screen.request("POST", "/Condition", "recovery-path");
        let reply = self.world.treatment.client.send(Method::POST, &url, &headers, body).await?;
        let reason = reply.json().pointer("/issue/0/details/coding/0/code").cloned().unwrap_or_default();
        self.screen.answer(&format!("{}   reason: {}", reply.status, reason.as_str().unwrap_or_default()));
        self.screen.quote(&format!("WWW-Authenticate: {}", reply.header("www-authenticate")));
        self.screen.quote(&format!("X-Request-Id: {}", reply.header("x-request-id")));
        self.screen.line("");
        self.screen.check(
            "403, with the reason and the scope that would do",
            reply.status == StatusCode::FORBIDDEN && reason == "insufficient-scope",
        );
        self.refused = reply.header("x-request-id").to_owned();
        Ok(())
    }

    /// Doors that must be shut, with the EHR none the wiser.
    pub(super) async fn attacks(&mut self) -> anyhow::Result<()> {
        self.screen.stop("Attacks, and what reaches the EHR");
        self.screen
            .say("Each of these is one real request. The EHR's log is empty at the start, and must be at the end.");
        self.screen.line("");
        self.world.ehr.forget();
        self.stolen_tokens().await?;
        self.flawed_tokens().await?;
        self.odd_requests().await?;
        let seen = self.world.ehr.log().len();
        self.screen.line("");
        self.screen.check("the EHR received nothing", seen == 0);
        Ok(())
    }

    async fn stolen_tokens(&mut self) -> anyhow::Result<()> {
        let target = format!("{}/Patient/bruno-vale", self.world.base_url());
        let token = self.world.treatment.token.clone();
        let anonymous = self.world.anonymous()?;
        let shut = anonymous.get(&target, &token).await;
        self.tried("a stolen token, no certificate", shut, &[]);
        // The listener beside it serves the same base URL: a client names it, wherever it connects.
        let beside = format!("{}/Patient/bruno-vale", self.world.smart_url());
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("host", self.world.authority())];
        let anonymous = HttpsClient::http1(&self.world.site_ca()?, None)?;
        let shut = anonymous.send(Method::GET, &beside, &headers, "").await;
        self.tried(
            "the same where certificates are optional",
            shut,
            &[StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN],
        );
        let other = self.world.research.client.get(&target, &token).await;
        self.tried(
            "a stolen token with another partner's certificate",
            other,
            &[StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN],
        );
        let old = HttpsClient::with_tls_1_2(&self.world.treatment, &self.world.site_ca()?)?.get(&target, &token).await;
        self.tried("TLS 1.2", old, &[]);
        Ok(())
    }

    async fn flawed_tokens(&mut self) -> anyhow::Result<()> {
        let target = format!("{}/Patient/bruno-vale", self.world.base_url());
        let grant = self.world.grant(&self.world.treatment);
        for (what, flaw) in [
            ("a token for another audience", Flaw::WrongAudience),
            ("an expired token", Flaw::Expired),
            ("a token with `alg: none`", Flaw::AlgNone),
            ("a token signed with the public key as a secret (HS256)", Flaw::Hs256WithPublicKey),
            ("a token whose claims were changed", Flaw::ChangedClaims),
            ("an id token in place of an access token", Flaw::IdToken),
            ("a token signed by somebody else's key", Flaw::ForeignKey),
        ] {
            let token = self.world.issuer.mint_flawed(&grant, flaw)?;
            let reply = self.world.treatment.client.get(&target, &token).await;
            self.tried(what, reply, &[StatusCode::UNAUTHORIZED]);
        }
        Ok(())
    }

    async fn odd_requests(&mut self) -> anyhow::Result<()> {
        let base = self.world.base_url();
        let authorization = format!("Bearer {}", self.world.treatment.token);
        let bad = [StatusCode::BAD_REQUEST];
        for (what, method, target, expected) in [
            (
                "a path that climbs: /Patient/../Patient/bruno-vale",
                Method::GET,
                "Patient/../Patient/bruno-vale",
                &bad[..],
            ),
            ("an encoded climb: /%2e%2e/metadata", Method::GET, "%2e%2e/metadata", &bad),
            ("a parameter that FHIR does not know", Method::GET, "Patient?colour=red", &bad),
            (
                "the other format, past the redactor: _format=xml",
                Method::GET,
                "Patient?_format=xml",
                &[StatusCode::NOT_ACCEPTABLE],
            ),
            (
                "a reverse chain as an oracle: _has",
                Method::GET,
                "Patient?_has:Condition:patient:code=F11.20",
                &[StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN],
            ),
            (
                "asking for labels: _security=42CFRPart2",
                Method::GET,
                "Condition?_security=42CFRPart2",
                &[StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN],
            ),
            ("TRACE", Method::TRACE, "Patient/bruno-vale", &[StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED]),
        ] {
            let headers = [("authorization", authorization.as_str())];
            let reply = self.world.treatment.client.send(method, &format!("{base}/{target}"), &headers, "").await;
            self.tried(what, reply, expected);
        }
        Ok(())
    }

    /// One attempt. No expected status means: no connection.
    fn tried(&mut self, what: &str, reply: anyhow::Result<Reply>, expected: &[StatusCode]) {
        match reply {
            Ok(reply) => {
                let body = reply.json();
                let reason =
                    body.pointer("/issue/0/details/coding/0/code").and_then(|code| code.as_str()).unwrap_or_default();
                let told = format!("{} {reason}", reply.status.as_str());
                self.screen.row(what, &told, expected.contains(&reply.status));
            }
            Err(_) => self.screen.row(what, "connection refused", expected.is_empty()),
        }
    }
}
