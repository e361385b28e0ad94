//! What the admin address asks of the running gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use fhirwall_policy::explain::explain_record;
use fhirwall_policy::record::DecisionRecord;
use time::OffsetDateTime;

use crate::admin::{Check, NotRevoked, Operations, Ordered};
use crate::audit::{Kind, Record};
use crate::config::AdminRole;
use crate::dashboard::Board;
use crate::forward::Standing;
use crate::generation::Generation;
use crate::lockdown::{Lifting, Order, OrderRefused};
use crate::proxy::Gateway;
use crate::reload::Live;
use crate::smart::tokeninfo::GRANT_MEMORY;
use crate::state::Lockdown;

/// The gateway, as its operators see it.
#[derive(Debug)]
pub(super) struct Operated {
    pub(super) gateway: Arc<Gateway>,
    pub(super) live: Arc<Live<Generation>>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) address: SocketAddr,
}

#[async_trait]
impl Operations for Operated {
    fn roles(&self) -> Vec<AdminRole> {
        self.live.current().generation.config.gateway.admin.roles.clone()
    }

    async fn note(&self, act: serde_json::Value) -> bool {
        self.gateway.shared.audit.record(Record::of(Kind::Access, act)).await.is_ok()
    }

    fn started(&self) -> bool {
        true
    }

    fn checks(&self) -> Vec<Check> {
        let status = self.live.status();
        let draining = self.draining.load(Ordering::Acquire);
        let audit = self.gateway.shared.audit.is_available();
        let check = |name: &str, ready: bool, detail: String| Check { name: name.to_owned(), ready, detail };
        let configuration = match &status.rejected {
            None => format!("generation {} serves", status.generation),
            Some(rejected) => format!(
                "generation {} serves on; the files as they stand are refused: {}",
                status.generation, rejected.problems
            ),
        };
        let mut checks = vec![
            check("draining", !draining, if draining { "this process is ending" } else { "no" }.to_owned()),
            check(
                "audit",
                audit,
                if audit { "records are written" } else { "records cannot be written: free the disk" }.to_owned(),
            ),
            // A refused change does not make the process unready: the last good generation serves on.
            check("configuration", true, configuration),
        ];
        for endpoint in &self.live.current().generation.endpoints {
            checks.extend(endpoint.upstream.pool().standing(Instant::now()).into_iter().map(|url| {
                let name = format!("upstream {} {}", endpoint.facts.name, url.index);
                let Standing { base, left_alone, .. } = &url;
                let detail = match url.healthy {
                    true => format!("{base} answers"),
                    false => format!("{base} does not answer; it is tried again in {} ms", left_alone.as_millis()),
                };
                // An EHR that is away makes the process no less ready: another replica has the same EHR, and refusals are
                // on record only where a gateway gives them.
                check(&name, true, detail)
            }));
        }
        checks
    }

    fn configuration(&self) -> String {
        let shown = self.live.current().generation.config.gateway.shown();
        serde_json::to_string_pretty(&shown).unwrap_or_default()
    }

    fn decision(&self, id: &str) -> Option<serde_json::Value> {
        let found = self.gateway.shared.audit.decision(id).unwrap_or_else(|error| {
            tracing::error!(%error, "the audit log cannot be read: an older decision is not found");
            None
        });
        let mut record = serde_json::to_value(found?.1).ok()?;
        // In words, by the set that serves now; it says so where another one decided.
        let facts = record.get("facts").map(ToString::to_string);
        if let Some(Ok(decided)) = facts.map(|facts| DecisionRecord::from_json(&facts)) {
            let words = explain_record(&self.live.current().generation.policies, &decided);
            if let Some(members) = record.as_object_mut() {
                members.insert("explanation".to_owned(), words.into());
            }
        }
        Some(record)
    }

    fn consents_changed(&self, patient: Option<&str>) {
        for endpoint in &self.live.current().generation.endpoints {
            match patient.map(str::parse::<fhir_profiles::ids::LogicalId>) {
                Some(Ok(patient)) => endpoint.consents.changed(&patient),
                Some(Err(_)) | None => endpoint.consents.changed_all(),
            }
        }
    }

    fn audit_head(&self) -> Option<serde_json::Value> {
        let head = self.gateway.shared.audit.heads().borrow().clone();
        head.and_then(|head| serde_json::to_value(head).ok())
    }

    async fn lockdowns(&self) -> Result<Arc<[Lockdown]>, OrderRefused> {
        self.gateway.shared.lockdowns.list().await
    }

    async fn lock_down(&self, order: Order) -> Result<Lockdown, OrderRefused> {
        self.gateway.shared.lockdowns.begin(order).await
    }

    async fn lift(&self, id: &str, lifting: Lifting) -> Result<(), OrderRefused> {
        let shared = &self.gateway.shared;
        shared.lockdowns.lift(id, &lifting, &shared.behaviour).await
    }

    async fn revoke(&self, ordered: Ordered) -> Result<(), NotRevoked> {
        let shared = &self.gateway.shared;
        let body = serde_json::json!({"revoked": ordered.what, "by": ordered.by, "reason": ordered.reason});
        shared.audit.record(Record::of(Kind::Token, body)).await.map_err(|_| NotRevoked::Audit)?;
        let until = shared.clock.now() + GRANT_MEMORY;
        shared.state.revoke(ordered.what, until).await.map_err(|_| NotRevoked::State)
    }

    async fn board(&self) -> Board {
        self.collect().await
    }

    fn now(&self) -> OffsetDateTime {
        self.gateway.shared.clock.now()
    }

    fn hosts(&self) -> Vec<String> {
        let port = self.address.port();
        vec![self.address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}")]
    }
}
