//! The bounds of a configuration in the form of those who keep them.

use std::sync::Arc;

use crate::admit::{Limits, PartnerLimits, Rate};
use crate::config::{self, Config};
use crate::listen::Bounds;

/// The limits of a configuration in the form of admission: a burst is two seconds' worth.
pub(super) fn limits(config: &Config) -> Limits {
    let own = &config.gateway.limits;
    let rate = |per_second: u32| Rate { per_second, burst: per_second.saturating_mul(2) };
    let defaults = Limits::default();
    let of = |rates: &config::PartnerRates| PartnerLimits {
        rate: rate(rates.requests_per_second.get()),
        concurrent: rates.concurrent_requests.get(),
        distinct_patients_per_hour: rates.distinct_patients_per_hour.get(),
        ..defaults.partner
    };
    let partner = of(&own.partner);
    let partners = config
        .partners
        .iter()
        .map(|one| {
            let stated = &one.file.limits;
            let limits = PartnerLimits {
                rate: stated.requests_per_second.map_or(partner.rate, |per_second| rate(per_second.get())),
                concurrent: stated.concurrent_requests.map_or(partner.concurrent, std::num::NonZeroU32::get),
                distinct_patients_per_hour: stated
                    .distinct_patients_per_hour
                    .map_or(partner.distinct_patients_per_hour, std::num::NonZeroU32::get),
                stated_patients_per_hour: stated.distinct_patients_per_hour.map(std::num::NonZeroU32::get),
                ..partner
            };
            (Arc::clone(&one.partner.client_id), limits)
        })
        .collect();
    Limits {
        user: rate(own.user.requests_per_second.get()),
        address: rate(own.address.requests_per_second.get()),
        user_concurrent: own.user.concurrent_requests.get(),
        user_patients_per_hour: own.user.distinct_patients_per_hour.get(),
        address_failures_per_minute: own.address.failures_per_minute.get(),
        concurrent: own.concurrent_requests.get(),
        in_flight_bytes: own.inflight_bytes.0,
        partner,
        partners,
        ..defaults
    }
}

pub(super) fn bounds(limits: &config::Limits) -> Bounds {
    Bounds {
        connections: usize::try_from(limits.connections.get()).unwrap_or(usize::MAX),
        handshake: limits.handshake_timeout,
        header: limits.header_timeout,
        idle: limits.idle_timeout,
        body: limits.body_timeout,
        header_bytes: 16 * 1024,
        request_bytes: limits.request_bytes.bytes(),
    }
}
