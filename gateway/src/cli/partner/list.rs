//! `partner list`.

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::println;
use serde_json::json;
use time::OffsetDateTime;

use super::{Output, Refused};
use crate::config::{Config, PartnerFile, Setting as _, environment};
use crate::control::{Finding, findings};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) fn run(args: &Args, now: OffsetDateTime) -> Result<ExitCode, Refused> {
    let config = Config::load(&args.config, &environment)?;
    let findings = findings(&config, now);
    let rows: Vec<Row> = config.partners.iter().map(|partner| row(&partner.file, &findings)).collect();
    match args.output {
        Output::Text => tell(&rows),
        Output::Json => {
            let one = |row: &Row| {
                json!({
                    "client_id": row.client_id, "name": row.name, "status": row.status, "type": row.kind,
                    "part2_basis": row.basis, "agreement_until": row.agreement, "assessment_until": row.assessment,
                    "findings": row.findings,
                })
            };
            println!("{:#}", json!({"partners": rows.iter().map(one).collect::<Vec<_>>()}));
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Row {
    client_id: String,
    name: String,
    status: String,
    kind: String,
    basis: String,
    agreement: String,
    assessment: String,
    findings: usize,
}

fn row(partner: &PartnerFile, findings: &[Finding]) -> Row {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let subject = format!("partner {}", partner.client_id);
    let evidence = &partner.evidence;
    Row {
        client_id: partner.client_id.clone(),
        name: partner.name.clone(),
        status: word(partner.status.shown()),
        kind: word(partner.client_type.shown()),
        basis: word(partner.part2.basis.shown()),
        agreement: evidence.baa.as_ref().map_or_else(|| "-".to_owned(), |baa| baa.expires.to_string()),
        assessment: evidence.security_assessment.as_ref().map_or_else(|| "-".to_owned(), |one| one.expires.to_string()),
        findings: findings.iter().filter(|one| one.subject == subject && one.counts()).count(),
    }
}

fn tell(rows: &[Row]) {
    println!(
        "{:<20} {:<24} {:<10} {:<24} {:<11} {:<12} {:<12} findings",
        "client_id", "name", "status", "type", "part 2", "agreement", "assessment"
    );
    for row in rows {
        println!(
            "{:<20} {:<24} {:<10} {:<24} {:<11} {:<12} {:<12} {}",
            row.client_id, row.name, row.status, row.kind, row.basis, row.agreement, row.assessment, row.findings
        );
    }
}
