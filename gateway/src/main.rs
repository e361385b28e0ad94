//! The `fhirwall` binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before anything else: pingora would install ring otherwise.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::from(fhirwall::cli::exit::USAGE);
    }
    fhirwall::cli::Cli::parse().run()
}
