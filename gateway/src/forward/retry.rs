//! After which failures a request may be sent once more, and for how long a client is told to wait.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};
use time::OffsetDateTime;

use super::{UpstreamFailure, UpstreamRequest};

/// An EHR's `Retry-After` is relayed up to this long: a slip of its operators must not shut clients out for a year.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// How an attempt on one URL ended without an answer to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// No connection could be made: the request was not sent.
    NotSent,
    /// The request was sent, or may have been, and no whole answer came.
    Lost,
    /// A server before the EHR, or the EHR itself, says that it cannot answer now (502, 503, 504).
    TurnedAway(UpstreamFailure),
    /// The deadline of the exchange has passed.
    TimedOut,
    /// An answer came, and it is none to judge.
    Answered(UpstreamFailure),
}

impl Ended {
    /// What it means to whoever asked.
    pub(super) const fn failure(self) -> UpstreamFailure {
        match self {
            Self::NotSent | Self::Lost => UpstreamFailure::Unreachable,
            Self::TurnedAway(failure) | Self::Answered(failure) => failure,
            Self::TimedOut => UpstreamFailure::TimedOut,
        }
    }

    /// Does it speak against the URL? A 503 is an answer: one busy moment, or one dear search, is no outage.
    pub(super) const fn speaks_against_url(self) -> bool {
        match self {
            Self::NotSent | Self::Lost | Self::TimedOut | Self::TurnedAway(UpstreamFailure::Unreachable) => true,
            Self::TurnedAway(_) | Self::Answered(_) => false,
        }
    }

    /// May the request be sent to another URL? What was not sent may; what changes nothing may. A write that may have
    /// arrived never (RFC 9110 9.2.2: a client must not retry a request that is not idempotent on its own).
    pub(super) const fn may_go_elsewhere(self, changes_nothing: bool) -> bool {
        match self {
            Self::NotSent => true,
            Self::Lost | Self::TurnedAway(_) => changes_nothing,
            Self::TimedOut | Self::Answered(_) => false,
        }
    }

    /// May the request be sent to the same URL once more? A connection that the EHR closed while it was idle looks like
    /// this to a request that was just then sent on it.
    pub(super) const fn may_go_again(self, changes_nothing: bool) -> bool {
        match self {
            Self::Lost => changes_nothing,
            Self::NotSent | Self::TurnedAway(_) | Self::TimedOut | Self::Answered(_) => false,
        }
    }
}

/// GET changes nothing, and neither does a search by POST (R4 http.html#search).
pub(super) fn changes_nothing(request: &UpstreamRequest) -> bool {
    request.method == Method::GET || (request.method == Method::POST && request.path.ends_with("/_search"))
}

/// `Retry-After` (RFC 9110 10.2.3), in seconds or as a date, at least a second and at most [`LONGEST_WAIT`].
pub(super) fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until.duration_since(SystemTime::from(now)).unwrap_or_default()
    };
    Some(wait.clamp(Duration::from_secs(1), LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn waits_are_read_in_both_forms_and_bounded() {
        let now = datetime!(1994-11-06 08:49:37 UTC);
        for (text, seconds) in [
            ("120", Some(120)),
            ("0", Some(1)),
            ("86400", Some(3_600)),
            ("99999999999999999999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sunday, 06-Nov-94 08:51:37 GMT", Some(120)),
            ("Sun Nov  6 08:51:37 1994", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(1)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(1)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3_600)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_write_that_may_have_arrived_is_not_sent_again() {
        let busy = UpstreamFailure::Unavailable { retry_after: None };
        // How it ended; elsewhere and again: for a read, for a write.
        for (ended, read, write) in [
            (Ended::NotSent, (true, false), (true, false)),
            (Ended::Lost, (true, true), (false, false)),
            (Ended::TurnedAway(busy), (true, false), (false, false)),
            (Ended::TurnedAway(UpstreamFailure::Unreachable), (true, false), (false, false)),
            (Ended::TimedOut, (false, false), (false, false)),
            (Ended::Answered(UpstreamFailure::TooLarge), (false, false), (false, false)),
        ] {
            assert_eq!((ended.may_go_elsewhere(true), ended.may_go_again(true)), read, "{ended:?}");
            assert_eq!((ended.may_go_elsewhere(false), ended.may_go_again(false)), write, "{ended:?}");
        }
    }

    #[test]
    fn only_reads_and_searches_change_nothing() {
        let request = |method: Method, path: &str| UpstreamRequest { method, ..UpstreamRequest::get(path, "") };
        assert!(changes_nothing(&request(Method::GET, "/Patient/1")));
        assert!(changes_nothing(&request(Method::POST, "/Patient/_search")));
        for (method, path) in [
            (Method::POST, "/Patient"),
            (Method::POST, ""),
            (Method::PUT, "/Patient/1"),
            (Method::PATCH, "/Patient/1"),
            (Method::DELETE, "/Patient/1"),
            (Method::PUT, "/Patient/_search"),
        ] {
            assert!(!changes_nothing(&request(method.clone(), path)), "{method} {path}");
        }
    }
}
