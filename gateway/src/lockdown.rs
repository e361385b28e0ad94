//! Lockdowns as people order them: withhold all Part 2 data, or stop an app, a user or an endpoint, on every replica, with
//! a reason, a name and an end (45 CFR 164.308(a)(6)(ii)).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit::{AuditLog, Kind, Record};
use crate::behaviour::Behaviour;
use crate::clock::Clock;
use crate::state::{Lockdown, LockdownScope, StateStore};

/// What is ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub scope: LockdownScope,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Why.
    pub reason: String,
    /// Who orders it.
    pub by: String,
}

/// Who lifts a lockdown, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifting {
    pub reason: String,
    pub by: String,
}

/// An order was not carried out, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefused {
    #[error("say why (`reason`) and who orders it (`by`), each in at most 500 characters")]
    Unexplained,
    #[error("`until` must lie ahead, and at most 366 days")]
    End,
    #[error("there is no lockdown with this id")]
    Unknown,
    #[error("it holds in this process, and could not be written to the shared state: order it at every replica")]
    NotShared,
    #[error("it holds, and could not be recorded: the audit log cannot be written")]
    NotRecorded,
    #[error("it still holds: lifting it could not be recorded")]
    NotLifted,
    #[error("the state store does not answer")]
    Unavailable,
}

/// Carries out orders.
#[derive(Clone)]
pub struct Orders {
    pub state: Arc<dyn StateStore>,
    pub audit: Arc<AuditLog>,
    pub clock: Arc<dyn Clock>,
}

impl Orders {
    /// The lockdowns in force.
    ///
    /// # Errors
    /// When nobody can know.
    pub async fn list(&self) -> Result<Arc<[Lockdown]>, OrderRefused> {
        self.state.lockdowns().await.map_err(|_| OrderRefused::Unavailable)
    }

    /// Begins a lockdown. It holds from the next request; on other replicas within a second.
    ///
    /// It is carried out first and recorded then: a full disk must not keep anybody from stopping a leak.
    ///
    /// # Errors
    /// For an order without reason, name or end, and when it holds only in part: the error says in which.
    pub async fn begin(&self, order: Order) -> Result<Lockdown, OrderRefused> {
        explained(&order.reason, &order.by)?;
        let now = self.clock.now();
        if order.until <= now || order.until - now > Duration::days(366) {
            return Err(OrderRefused::End);
        }
        let Order { scope, until, reason, by } = order;
        let lockdown = Lockdown { id: Uuid::now_v7().to_string(), scope, until, reason, by, spares_emergency: false };
        self.carry_out(lockdown).await
    }

    /// Stops a user whose behaviour calls for it, until someone has looked. Emergency access stays open.
    pub(crate) async fn stop_user(&self, issuer: &str, sub: &str, reason: String) -> Result<Lockdown, OrderRefused> {
        let scope = LockdownScope::User { issuer: issuer.to_owned(), sub: sub.to_owned() };
        let (id, by) = (Uuid::now_v7().to_string(), "behaviour analytics".to_owned());
        let until = self.clock.now() + Duration::days(1);
        self.carry_out(Lockdown { id, scope, until, reason, by, spares_emergency: true }).await
    }

    /// Ends a lockdown before its time. Recorded first: what opens something is never unrecorded.
    ///
    /// # Errors
    /// When there is no such lockdown, or lifting it cannot be recorded.
    pub async fn lift(&self, id: &str, lifting: &Lifting, behaviour: &Behaviour) -> Result<(), OrderRefused> {
        explained(&lifting.reason, &lifting.by)?;
        let lockdowns = self.list().await?;
        let lockdown = lockdowns.iter().find(|lockdown| lockdown.id == id).ok_or(OrderRefused::Unknown)?;
        let body =
            json!({"event": "lifted", "id": id, "scope": lockdown.scope, "reason": lifting.reason, "by": lifting.by});
        self.audit.record(Record::of(Kind::Lockdown, body)).await.map_err(|_| OrderRefused::NotLifted)?;
        self.state.lift(id).await.map_err(|_| OrderRefused::Unavailable)?;
        if let LockdownScope::User { issuer, sub } = &lockdown.scope {
            // Who lifted it has looked: the same day's numbers shall not stop the user again.
            behaviour.excuse(issuer, sub, self.clock.now() + Duration::days(1));
        }
        Ok(())
    }

    async fn carry_out(&self, lockdown: Lockdown) -> Result<Lockdown, OrderRefused> {
        let shared = self.state.lock_down(lockdown.clone()).await;
        let Lockdown { id, scope, until, reason, by, .. } = &lockdown;
        tracing::warn!(id, ?scope, %until, by, "lockdown");
        let mut body = json!({"event": "began", "id": id, "scope": scope, "reason": reason, "by": by});
        if let (Some(fields), Ok(until)) = (body.as_object_mut(), serde_json::to_value(&lockdown)) {
            fields.insert("until".to_owned(), until.get("until").cloned().unwrap_or_default());
        }
        let recorded = self.audit.record(Record::of(Kind::Lockdown, body)).await;
        match (shared, recorded) {
            (Ok(()), Ok(_)) => Ok(lockdown),
            (Err(_), _) => Err(OrderRefused::NotShared),
            (Ok(()), Err(_)) => Err(OrderRefused::NotRecorded),
        }
    }
}

fn explained(reason: &str, by: &str) -> Result<(), OrderRefused> {
    let good = |text: &str| !text.trim().is_empty() && text.chars().count() <= 500;
    if good(reason) && good(by) { Ok(()) } else { Err(OrderRefused::Unexplained) }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Orders(..)")
    }
}
