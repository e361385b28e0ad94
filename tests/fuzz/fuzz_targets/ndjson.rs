//! Any lines in any windows, whose size the first byte says: see the law.
#![no_main]

#[path = "laws.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((size, lines)) = bytes.split_first() {
        laws::windowed(usize::from(*size) + 1, lines);
    }
});
