//! Any lines, cut into any windows: the same lines come out as in one piece, or the same refusal.
#![no_main]

#[path = "judges.rs"]
mod judges;

use fhir_profiles::engine::{LineWindows, Limits, RedactOptions, Style, redact_lines};
use fhir_profiles::labeller::Labeller;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = (usize::from(input.0) + 1, input.1);
    let labeller = Labeller::default();
    let options = RedactOptions::verbatim(Style::Silent);
    let redact = |window: &[u8]| {
        let lines =
            redact_lines(window, &Limits::default(), &labeller, "2026-11-22", &mut |_| judges::Strict, &options);
        lines.map(|lines| lines.body)
    };
    let whole = redact(bytes);
    let mut windows = LineWindows::new();
    let mut shown = Vec::new();
    let mut refused = None;
    for window in bytes.chunks(size) {
        match windows.push(window, usize::MAX).and_then(|lines| redact(&lines)) {
            Ok(body) => shown.extend(body),
            Err(error) => {
                refused.get_or_insert(error);
                break;
            }
        }
    }
    if refused.is_none() {
        match redact(&windows.finish()) {
            Ok(body) => shown.extend(body),
            Err(error) => refused = Some(error),
        }
    }
    match (whole, refused) {
        (Ok(whole), None) => assert_eq!(whole, shown),
        (Err(error), Some(refused)) => assert_eq!(error, refused),
        (whole, refused) => panic!("one piece {:?}, windows {refused:?}", whole.is_ok()),
    }
});
