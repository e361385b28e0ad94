//! What a caller is told of its limits: `RateLimit`, `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) and
//! `Retry-After` (RFC 9110 10.2.3). They tell of the caller's own quota alone, never of stored data.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

use super::{Admitted, Throttled};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Admitted {
    /// Adds what is left of the tightest allowance.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let (name, quota, left, window) = (self.policy, self.quota, self.left, seconds(self.window));
        insert(headers, RATE_LIMIT_POLICY, &format!("\"{name}\";q={quota};w={window}"));
        insert(headers, RATE_LIMIT, &format!("\"{name}\";r={left};t={window}"));
    }
}

impl Throttled {
    /// Adds which limit was reached and when to come back.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let (name, wait) = (self.limit.as_str(), seconds(self.retry_after));
        insert(headers, RATE_LIMIT, &format!("\"{name}\";r=0;t={wait}"));
        insert(headers, RETRY_AFTER, &wait.to_string());
    }
}

/// Whole seconds, rounded up: who comes back then is not too early.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::Limit;

    #[test]
    fn a_throttled_caller_is_told_when_to_come_back() {
        let mut headers = HeaderMap::new();
        Throttled { limit: Limit::PartnerRequests, retry_after: Duration::from_millis(1500) }
            .write_headers(&mut headers);
        assert_eq!(headers[RETRY_AFTER], "2");
        assert_eq!(headers[RATE_LIMIT], "\"partner-requests\";r=0;t=2");
    }
}
