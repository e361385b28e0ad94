//! The journey of a request: the one place that connects the stages.

mod batch;
mod brought;
mod decided;
mod export;
mod history;
mod image;
mod observe;
mod page;
mod public;
mod pushdown;
mod read;
mod record;
mod refill;
mod risk;
mod served;
mod stepup;
mod transaction;
mod write;
mod written;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fhir_profiles::interaction::Interaction;
use fhirwall_policy::decide::Risk;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::Method;
use rustls::pki_types::UnixTime;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use crate::admit::{Admitted, Effort, RouteClass, as_one_request};
use crate::audit::{AuditUnavailable, Record};
use crate::config::Serves;
use crate::forward::UpstreamFailure;
use crate::generation::{Endpoint, Generation};
use crate::identify::Presented;
use crate::interpret::interpret;
use crate::links::Position;
use crate::listen::front::{FrontRefusal, of_the_handshake};
use crate::listen::{Answer, Application, Connection, Request};
use crate::redact::{Account, Stage};
use crate::refusal::{Refusal, base_headers};
use crate::reload::{Live, Numbered};
use crate::schedule;
use crate::shared::Shared;
use crate::smart::broker::patients::NamedPatients;
use crate::smart::request::AuthRequest;
use brought::Brought;
use record::Journal;

/// The gateway, as its listeners see it.
#[derive(Debug)]
pub struct Gateway {
    pub live: Arc<Live<Generation>>,
    pub shared: Arc<Shared>,
}

#[async_trait]
impl Application for Gateway {
    async fn answer(&self, connection: &Connection, mut request: Request) -> Answer {
        let numbered = self.live.current();
        let generation = &numbered.generation;
        let tls = generation.listeners.get(connection.listener);
        let seconds = u64::try_from(self.shared.clock.now().unix_timestamp()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let behind = match generation.proxies.client(connection, &mut request.headers, tls, now) {
            Ok(behind) => behind,
            Err(untrue) => return self.turn_away(connection, Refusal::from(untrue)),
        };
        // A trusted neighbour's handshake is its own, the request its client's.
        if behind.is_none()
            && let Err(refusal) = of_the_handshake(connection.server_name.as_deref(), request.authority.as_deref())
        {
            return self.turn_away(connection, Refusal::from(refusal));
        }
        let connection = behind.as_ref().unwrap_or(connection);
        let called = generation.by_published_name(connection.listener, &mut request);
        let mut journey = Journey {
            shared: &self.shared,
            now: self.shared.clock.now(),
            started: Instant::now(),
            journal: Journal::new(Uuid::now_v7(), connection, generation.config.gateway.mode),
            numbered: &numbered,
            generation,
            place: None,
            judged: false,
        };
        let span = tracing::info_span!("request", decision = %journey.journal.decision);
        as_one_request(async {
            // Boxed, here and below: a future that holds every way in one would be moved whole at each of its layers.
            let walk = Box::pin(journey.walk(connection, &request, called.as_deref()));
            let outcome = walk.instrument(span).await;
            let mut answer = journey.end(outcome).await;
            public::share(generation, &request, &mut answer);
            answer
        })
        .await
    }

    async fn refuse(&self, connection: &Connection, refusal: FrontRefusal) -> Answer {
        self.turn_away(connection, Refusal::from(refusal))
    }
}

impl Gateway {
    /// Refuses what came before there was a request to walk with: counted, and put on record in aggregate.
    fn turn_away(&self, connection: &Connection, refusal: Refusal) -> Answer {
        let mode = self.live.current().generation.config.gateway.mode;
        let journal = Journal::new(Uuid::now_v7(), connection, mode);
        self.shared.audit.refusals().count(refusal.reason, self.shared.clock.now());
        journal.count(&self.shared, Err(refusal.reason), Duration::ZERO);
        refusal.answer(journal.decision)
    }
}

/// One request on its way through the stages.
struct Journey<'a> {
    shared: &'a Arc<Shared>,
    /// Held on to by answers that outlive the journey.
    numbered: &'a Arc<Numbered<Generation>>,
    generation: &'a Generation,
    now: OffsetDateTime,
    started: Instant,
    journal: Journal,
    /// The place among the caller's requests at once, kept as long as the answer takes.
    place: Option<Admitted>,
    /// A record was judged, shown or not: how long that takes in all is what hidden and missing wait for.
    judged: bool,
}

/// What the stages made of a request.
enum Outcome {
    /// An answer with nothing of a patient in it.
    Public(Answer),
    /// An answer to be recorded before it is sent.
    Disclosure(Answer),
    /// A long answer, whose windows are recorded one by one; the first is.
    Recorded(Answer),
}

impl Outcome {
    fn size(&self) -> usize {
        match self {
            Self::Public(answer) | Self::Disclosure(answer) | Self::Recorded(answer) => answer.body.len(),
        }
    }
}

/// What an interaction ended in, on record.
struct Ended {
    answer: Answer,
    /// It tells, or hides, what is stored: it is released on the schedule.
    hidden: bool,
}

/// An identified caller, admitted at an endpoint.
struct Visit<'v> {
    endpoint: &'v Endpoint,
    subject: &'v Subject,
    /// All Part 2 data is locked down.
    part2_locked: bool,
    /// How its behaviour is rated.
    risk: Risk,
}

impl<'a> Journey<'a> {
    /// `called`: the authority under which the client called this listener, where that is not the endpoint's published one.
    async fn walk(
        &mut self,
        connection: &Connection,
        request: &Request,
        called: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        self.admit_address(connection)?;
        if request.method == Method::OPTIONS {
            return public::preflight(self.generation, request, self.journal.decision).map(Outcome::Public);
        }
        let serves = self.generation.serves(connection.listener);
        let document =
            Box::pin(public::document(self.generation, serves, request, self.journal.decision, self.now)).await;
        if let Some(document) = document {
            return Ok(Outcome::Public(document));
        }
        let (endpoint, path) = self.route(connection, request)?;
        self.journal.endpoint(endpoint);
        if let Some(outcome) = Box::pin(self.authorization(endpoint, path, connection, request)).await {
            return Ok(outcome);
        }
        let subject = self.stage("identify", self.identify(endpoint, connection, request, called)).await?;
        self.journal.subject(&subject, self.generation.emergency.discloser(&endpoint.facts.name));
        let entries = self.generation.config.gateway.limits.bundle_entries.get();
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let interaction = self.measure("interpret", || interpret(endpoint, path, request, entries))?;
        let load = load_of(&interaction);
        let (interaction, position) = self.unseal(endpoint, &subject, interaction)?;
        let (interaction, export) = self.open_export(endpoint, &subject, interaction)?;
        self.journal.interaction(&interaction);
        // A look at a job is no new job; a further page is as dear as the search it belongs to.
        let load = if export.is_some() { load } else { load_of(&interaction) };
        let admitted = self.stage("admit", self.admit(&subject, load)).await;
        self.place = self.unless_observed(admitted)?;
        let part2_locked = self.lockdowns(endpoint, &subject).await?;
        let risk = self.risk(&subject);
        let risk = self.unless_observed(risk)?.unwrap_or(Risk::High);
        let visit = Visit { endpoint, subject: &subject, part2_locked, risk };
        let brought = Brought::with(request)?;
        if let Interaction::Batch { entries } = &interaction {
            return Box::pin(self.batch(&visit, entries, &brought)).await;
        }
        if let Interaction::Transaction { entries } = &interaction {
            return Box::pin(self.transaction(&visit, entries, &brought)).await;
        }
        if let Some(export) = export {
            return Box::pin(self.export(&visit, &interaction, export, &brought)).await;
        }
        self.carry_out(&visit, &interaction, position, &brought).await
    }

    /// Decides on one interaction and carries it out, whether it is a request of its own or an entry of a Bundle.
    async fn carry_out(
        &mut self,
        visit: &Visit<'_>,
        interaction: &Interaction,
        position: Option<Position>,
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        let permit = self.decide(visit, interaction)?;
        let stage = self.stage_of(visit, &permit);
        if interaction.changes() {
            Box::pin(self.write(&stage, visit.subject, brought)).await
        } else {
            self.read(&stage, visit.subject, interaction, position, brought).await
        }
    }

    /// What an answer under this permit is judged in.
    fn stage_of<'s>(&self, visit: &'s Visit<'_>, permit: &'s Permit) -> Stage<'s>
    where
        'a: 's,
    {
        Stage {
            generation: self.generation,
            endpoint: visit.endpoint,
            shared: self.shared,
            permit,
            now: self.now,
            part2_locked: visit.part2_locked,
            write: None,
        }
    }

    /// Finds the endpoint by host and path, and what of it this listener serves. Nothing else is served on a data listener.
    fn route<'r>(&self, connection: &Connection, request: &'r Request) -> Result<(&'a Endpoint, &'r str), Refusal> {
        let authority = request.authority.as_deref().unwrap_or_default();
        let endpoint = self.generation.endpoint(authority, &request.path).ok_or(Reason::UnknownInteraction)?;
        let path = request.path.strip_prefix(endpoint.base_path.as_str()).unwrap_or_default();
        let wanted = if endpoint.auth.is_some() && path.starts_with("/auth/") { Serves::Smart } else { Serves::Fhir };
        if !self.generation.serves(connection.listener).contains(&wanted) {
            return Err(Refusal::from(Reason::UnknownInteraction));
        }
        Ok((endpoint, path))
    }

    /// What the authorization server of the endpoint answers, in the modes that have one. No health data is in it,
    /// except where the consent page names patients to choose from: that is recorded first, as any disclosure.
    async fn authorization(
        &mut self,
        endpoint: &Endpoint,
        path: &str,
        connection: &Connection,
        request: &Request,
    ) -> Option<Outcome> {
        let (auth, path) = (endpoint.auth.as_ref()?, path.strip_prefix("/auth/")?);
        let asked = AuthRequest {
            method: &request.method,
            query: request.query.as_deref(),
            headers: &request.headers,
            body: &request.body,
            peer: connection.peer.as_deref(),
            now: self.now,
        };
        let (head, body) = auth.answer(path, &asked).await?.into_parts();
        let mut headers = base_headers(self.journal.decision);
        for name in head.headers.keys() {
            headers.remove(name);
        }
        headers.extend(head.headers);
        let answer = Answer { status: head.status, headers, body, rest: None, ending: None };
        Some(match head.extensions.get::<NamedPatients>() {
            Some(shown) => {
                self.journal.shown(shown);
                Outcome::Disclosure(answer)
            }
            None => Outcome::Public(answer),
        })
    }

    fn admit_address(&self, connection: &Connection) -> Result<(), Refusal> {
        let admission = &self.shared.admission;
        admission
            .unidentified(connection.address.ip(), connection.certificate())
            .map_err(|throttled| self.throttled(throttled))
    }

    async fn identify(
        &self,
        endpoint: &Endpoint,
        connection: &Connection,
        request: &Request,
        called: Option<&str>,
    ) -> Result<Subject, Refusal> {
        // RFC 9449 4.3: a proof names the URL as the client called it.
        let url = match called {
            Some(authority) => format!("https://{authority}{}", request.path),
            None => {
                let below = request.path.strip_prefix(endpoint.base_path.as_str()).unwrap_or_default();
                format!("{}{below}", endpoint.base_url)
            }
        };
        let presented = Presented {
            peer: connection.peer.as_deref(),
            headers: &request.headers,
            method: &request.method,
            url: &url,
            query: request.query.as_deref(),
            audience: Some(&endpoint.base_url),
        };
        let identified = self.generation.identifier.identify(&presented, self.now).await;
        let subject = identified.map_err(|error| {
            self.shared.admission.not_identified(connection.address.ip(), connection.certificate(), &error);
            Refusal::identify(&error, public::resource_metadata(endpoint).as_deref())
        })?;
        Ok(self.generation.emergency.stepped_up(subject, self.now))
    }

    async fn admit(&self, subject: &Subject, load: Load) -> Result<Admitted, Refusal> {
        let (effort, (class, entries)) = load;
        let admitted = self.shared.admission.before(subject, effort, class, entries).await;
        admitted.map_err(|throttled| self.throttled(throttled))
    }

    /// Room in memory for the answer, before the EHR is asked (rule 13).
    async fn room(&self) -> Result<crate::admit::BytesInFlight, Refusal> {
        self.shared.admission.hold_bytes(served::FIRST_ROOM).await.map_err(|throttled| self.throttled(throttled))
    }

    async fn admit_disclosure(&self, subject: &Subject, account: &Account, bytes: usize) -> Result<(), Refusal> {
        let patients: Vec<&str> = account.patients.iter().map(String::as_str).collect();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.shared.admission.disclosing(subject, &patients).await.map_err(|over| self.throttled(over))?;
        self.shared.admission.sending(subject, bytes).await.map_err(|over| self.throttled(over))
    }

    fn throttled(&self, throttled: crate::admit::Throttled) -> Refusal {
        self.shared.metrics.ratelimit_rejection(throttled.limit.as_str());
        Refusal { retry_after: Some(throttled.retry_after), ..Refusal::from(throttled.reason()) }
    }

    /// Is this caller stopped, or all Part 2 data withheld?
    async fn lockdowns(&self, endpoint: &Endpoint, subject: &Subject) -> Result<bool, Refusal> {
        let lockdowns = self.shared.state.lockdowns().await.map_err(|_| Refusal::from(Reason::StateUnavailable))?;
        let bearer = served::bearer(subject);
        let live = || lockdowns.iter().filter(|lockdown| self.now < lockdown.until);
        let spared = |lockdown: &crate::state::Lockdown| lockdown.spares_emergency && subject.emergency.is_some();
        if live().any(|lockdown| lockdown.stops(bearer, &endpoint.facts.name) && !spared(lockdown)) {
            return Err(Refusal::from(Reason::Lockdown));
        }
        Ok(live().any(crate::state::Lockdown::withholds_part2))
    }

    /// Records how the request ended, and only then lets the answer go.
    async fn end(mut self, outcome: Result<Outcome, Refusal>) -> Answer {
        let Ended { answer, hidden } = self.conclude(outcome).await;
        if let (true, Some(endpoint)) = (self.judged, self.journal.endpoint_of(self.generation)) {
            endpoint.schedule.observe(self.started.elapsed());
        }
        if hidden {
            self.release_on_schedule(self.journal.quiet().unwrap_or(1)).await;
        }
        answer
    }

    /// Records how an interaction ended. What comes of it may be sent, once it is due.
    async fn conclude(&mut self, outcome: Result<Outcome, Refusal>) -> Ended {
        let took = self.started.elapsed();
        let answer = match outcome {
            Ok(Outcome::Public(answer) | Outcome::Recorded(answer)) => {
                self.journal.count(self.shared, Ok(answer.status), took);
                return Ended { answer, hidden: false };
            }
            Ok(Outcome::Disclosure(answer)) => answer,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let record = self.journal.disclosure(answer.status, answer.body.len());
        let recorded = self.measure_async("audit", self.record(record)).await;
        let answer = match recorded {
            Ok(()) => {
                self.shared.metrics.audit_record();
                self.journal.emergency(self.shared, "disclosed");
                self.journal.observe(self.shared, self.now, None, answer.body.len());
                self.journal.count(self.shared, Ok(answer.status), took);
                Answer { ending: Some(self.journal.ending(Arc::clone(&self.shared.audit))), ..answer }
            }
            Err(_) => {
                self.journal.count(self.shared, Err(Reason::AuditUnavailable), took);
                Refusal::from(Reason::AuditUnavailable).answer(self.journal.decision)
            }
        };
        Ended { answer, hidden: self.journal.quiet().is_some() }
    }

    async fn refuse(&mut self, refusal: Refusal) -> Ended {
        let reason = refusal.reason;
        let mut visible = refusal.clone();
        if self.journal.is_identified() {
            self.journal.emergency(self.shared, "refused");
            self.journal.observe(self.shared, self.now, Some(reason), 0);
            let record = self.journal.refusal(&refusal);
            if self.record(record).await.is_err() {
                visible = Refusal::from(Reason::AuditUnavailable);
            }
        } else {
            self.shared.audit.refusals().count(reason, self.now);
        }
        self.journal.count(self.shared, Err(reason), self.started.elapsed());
        Ended { answer: visible.answer(self.journal.decision), hidden: reason.depends_on_stored_data() }
    }

    async fn record(&self, record: Record) -> Result<(), AuditUnavailable> {
        self.shared.audit.record(record).await.map(|_| ())
    }

    /// Hidden and missing take equally long (product.md section 4). `rounds`: how many exchanges stood one after another.
    async fn release_on_schedule(&self, rounds: u32) {
        let Some(endpoint) = self.journal.endpoint_of(self.generation) else { return };
        let due = endpoint.schedule.release_after(self.started.elapsed(), rounds);
        schedule::release(self.started, due).await;
    }

    async fn stage<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        let span = tracing::info_span!("stage", otel.name = name);
        self.measure_async(name, work.instrument(span)).await
    }

    async fn measure_async<T>(&self, name: &'static str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.shared.metrics.stage(name, started.elapsed());
        done
    }

    fn measure<T>(&self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = tracing::info_span!("stage", otel.name = name).in_scope(work);
        self.shared.metrics.stage(name, started.elapsed());
        done
    }
}

/// How long and how dear the work is.
type Load = (Effort, (RouteClass, u32));

fn load_of(interaction: &Interaction) -> Load {
    (Effort::of(interaction), served::route_class(interaction))
}

fn failure(failure: UpstreamFailure) -> Refusal {
    match failure {
        UpstreamFailure::Unavailable { retry_after } => Refusal { retry_after, ..Refusal::from(Reason::UpstreamBusy) },
        UpstreamFailure::NoRoom => Refusal::from(Reason::Overloaded),
        UpstreamFailure::TooLarge | UpstreamFailure::Unintelligible => Refusal::from(Reason::UpstreamUnintelligible),
        UpstreamFailure::Unreachable | UpstreamFailure::TimedOut | UpstreamFailure::Credential => {
            Refusal::from(Reason::UpstreamUnavailable)
        }
    }
}
