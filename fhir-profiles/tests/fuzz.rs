//! The laws of the fuzz targets, on the stable compiler and in seconds: on the seeds that fuzzing starts from, and on
//! generated documents, whole and with bytes changed.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

#[path = "differential/generate.rs"]
#[expect(dead_code, reason = "canaries are for the differential test")]
mod generate;
#[path = "../../tests/fuzz/fuzz_targets/laws.rs"]
mod laws;

use std::path::Path;

fn obeys_every_law(bytes: &[u8]) {
    laws::scanned(bytes);
    laws::redacted(bytes);
    laws::windowed(1 + bytes.len() % 97, bytes);
}

#[test]
fn the_seeds_obey_the_laws() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds");
    let mut played = 0;
    for target in ["scan", "redact", "ndjson"] {
        for seed in std::fs::read_dir(folder.join(target)).unwrap() {
            obeys_every_law(&std::fs::read(seed.unwrap().path()).unwrap());
            played += 1;
        }
    }
    assert!(played >= 12, "{played} seeds");
}

#[test]
fn generated_documents_obey_the_laws_whole_and_broken() {
    for seed in 1..1500 {
        let document = generate::document(seed).into_bytes();
        obeys_every_law(&document);
        let mut random = generate::Random::new(seed);
        for _ in 0..8 {
            let mut bytes = document.clone();
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes[at] = b"{}[]\",:\\x0 \n"[random.below(12)],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\n{}[]\",:\\u"[random.below(10)]),
            }
            obeys_every_law(&bytes);
        }
    }
}
