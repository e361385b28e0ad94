//! `fhirwall audit behaviour`: recorded traffic, judged again under a configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::read::Entry;
use crate::behaviour::{Behaviour, Prior, RiskNote, Settings, replay};
use crate::config::Config;

/// What came of it.
pub(super) struct Lines {
    pub(super) exchanges: u64,
    pub(super) told: Vec<Told>,
}

/// An assessment that would have been told of.
#[derive(Serialize)]
pub(super) struct Told {
    seq: u64,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    partner: String,
    user: String,
    /// Under this configuration: `observe` in shadow mode.
    done: &'static str,
    risk: RiskNote,
}

/// Judges these entries under the configuration's `risk`, or under the defaults.
pub(super) fn lines(config: Option<&Path>, entries: &[Entry]) -> Result<Lines, String> {
    let config = config
        .map(|path| Config::load(path, &|name| std::env::var(name).ok()).map_err(|problems| problems.to_string()))
        .transpose()?;
    let settings = config
        .as_ref()
        .map_or_else(Settings::default, |config| crate::serve::behaviour::settings(&config.gateway.risk));
    let stated: BTreeMap<&str, f64> = config
        .iter()
        .flat_map(|config| config.partners.iter())
        .filter_map(|one| {
            let hourly = one.file.limits.distinct_patients_per_hour?;
            Some((&*one.partner.client_id, f64::from(hourly.get())))
        })
        .collect();
    let expected = |partner: &str| {
        let hourly = *stated.get(partner)?;
        Some(Prior { patients_per_hour: hourly, patients_per_day: 2.0 * hourly, ..settings.partner })
    };
    let behaviour = Behaviour::new(settings);
    let mut told = Vec::new();
    let exchanges = replay(entries.iter(), &behaviour, expected, |entry, record, assessment| {
        told.push(Told {
            seq: entry.seq,
            time: entry.time,
            partner: record.partner.to_string(),
            user: record.user.to_string(),
            done: assessment.answer.as_str(),
            risk: RiskNote::of(assessment, assessment.would),
        });
    });
    Ok(Lines { exchanges, told })
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, time, partner, user, done, risk } = self;
        let time = time.format(&Rfc3339).unwrap_or_default();
        write!(f, "{seq:>8} {time} {partner} {user}: {} (score {:.0}, done: {done})", risk.answer, risk.score)?;
        for reason in &risk.reasons {
            write!(f, "\n           {}", reason.says)?;
        }
        Ok(())
    }
}
