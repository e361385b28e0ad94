//! Any path and method: no panic, and what is sent parses back to the same interaction.
#![no_main]

use fhir_profiles::interaction::{RequestParts, interpret};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str)| {
    let (method, path) = input;
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
    let method = methods[usize::from(method) % methods.len()];
    let content_type = match method {
        "PATCH" => Some("application/json-patch+json"),
        "POST" | "PUT" => Some("application/fhir+json"),
        _ => None,
    };
    let parts = RequestParts { method, path, content_type, ..RequestParts::default() };
    let Ok(interaction) = interpret(&parts) else { return };
    let _ = interaction.touched();
    if let Some(sent) = interaction.upstream() {
        assert!(!sent.path.contains("..") || sent.path.split('/').all(|segment| segment != ".."));
        assert!(sent.path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'?' | b'#' | b';' | b'\\')));
        let query = (!sent.query.is_empty()).then_some(sent.query.as_str());
        let again = RequestParts { method: sent.method.as_str(), path: &sent.path, query, content_type, ..parts };
        assert_eq!(interpret(&again).map(|again| again.touched()), Ok(interaction.touched()));
    }
});
