//! The `fhirwall` binary.

use std::process::ExitCode;

use clap::Parser;

/// A request allocates a few thousand small things and frees them soon: docs/adr/0094-the-allocator.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: pingora would install ring otherwise.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::from(fhirwall::cli::exit::USAGE);
    }
    fhirwall::cli::Cli::parse().run()
}
