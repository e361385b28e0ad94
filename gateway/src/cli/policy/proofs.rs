//! `policy prove` and `policy mutate`: what holds of all requests, and whether anything would notice if it did not.

use std::path::Path;

use anstream::{eprintln, println};
use fhirwall_policy::cedar::PolicySet;

use super::{Ended, Found, Mutate, Output, Prove, read_dir, read_tables};
use crate::prove;

pub(super) fn prove(args: &Prove) -> Ended {
    let set = args.set.load()?;
    let invariants = invariants(args.invariants.as_deref())?;
    let started = std::time::Instant::now();
    let report = match prove::prove(&set, &invariants) {
        Err(prove::Failure::NoSolver(remedy)) => {
            eprintln!("{remedy}");
            return Ok(Found::NoSolver);
        }
        Err(prove::Failure::Unusable(problem)) => return Err(problem),
        Ok(report) => report,
    };
    if let (true, Some(dir)) = (args.save, &args.set.policies) {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        let path = dir.join(prove::REPORT);
        std::fs::write(&path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    match args.set.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?),
        Output::Text => {
            for proof in &report.proofs {
                println!("{proof}");
            }
            let failed = report.proofs.iter().filter(|proof| !proof.holds()).count();
            println!(
                "{} proved, {failed} failed, in {:.1} s; policy set {}",
                report.proofs.len() - failed,
                started.elapsed().as_secs_f32(),
                set.epoch()
            );
        }
    }
    Ok(Found::if_any(report.proofs.iter().any(|proof| !proof.holds())))
}

pub(super) fn mutate(args: &Mutate) -> Ended {
    let set = args.test.set.load()?;
    let tables = read_tables(args.test.tables.as_deref())?;
    let mutants = fhirwall_policy::mutate::mutants(&set);
    let (mut by_load, mut by_table, mut by_proof, mut survivors) = (0_usize, 0_usize, 0_usize, Vec::new());
    let invariants = invariants(None)?;
    for mutant in &mutants {
        let Ok(changed) = PolicySet::load(&[("mutant.cedar".to_owned(), mutant.text.clone())]) else {
            by_load += 1;
            continue;
        };
        if tables.catches(&changed).is_some() {
            by_table += 1;
            continue;
        }
        let proof = if args.without_proof { Ok(true) } else { prove::holds(&changed, &invariants) };
        match proof {
            Ok(true) => survivors.push(format!("policy `{}`: {}", mutant.policy, mutant.change)),
            Ok(false) => by_proof += 1,
            Err(prove::Failure::NoSolver(remedy)) => {
                eprintln!("{remedy}");
                return Ok(Found::NoSolver);
            }
            Err(prove::Failure::Unusable(problem)) => return Err(problem),
        }
    }
    match args.test.set.output {
        Output::Json => println!(
            "{}",
            serde_json::json!({
                "mutants": mutants.len(), "refused_at_load": by_load, "caught_by_tables": by_table,
                "caught_by_proof": by_proof, "survivors": survivors,
            })
        ),
        Output::Text => {
            survivors.iter().for_each(|survivor| println!("SURVIVES {survivor}"));
            println!(
                "{} mutants: {by_load} refused at load, {by_table} caught by tables, {by_proof} by proof, {} survive",
                mutants.len(),
                survivors.len()
            );
        }
    }
    Ok(Found::if_any(!survivors.is_empty()))
}

fn invariants(dir: Option<&Path>) -> Result<Vec<(String, String)>, String> {
    let mut files: Vec<(String, String)> =
        prove::SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if let Some(dir) = dir {
        files.extend(read_dir(dir, "cedar")?);
    }
    Ok(files)
}
