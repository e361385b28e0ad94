//! `policy test` and `policy diff`: sets put to the questions of the tables.

use anstream::println;
use fhirwall_policy::question::{Question, Ruling};

use super::{Diff, Ended, Found, Output, Test, load, read_dir, read_tables};

pub(super) fn test(args: &Test) -> Ended {
    let set = args.set.load()?;
    let tables = read_tables(args.tables.as_deref())?;
    let (failures, uncovered) = (tables.failures(&set), tables.uncovered(&set));
    match args.set.output {
        Output::Json => {
            println!("{}", serde_json::json!({ "rows": tables.len(), "failures": failures, "uncovered": uncovered }))
        }
        Output::Text => {
            failures.iter().for_each(|failure| println!("FAIL {failure}"));
            uncovered.iter().for_each(|part| println!("NOT EXERCISED {part}"));
            println!("{} rows, {} failures, {} parts not exercised", tables.len(), failures.len(), uncovered.len());
        }
    }
    Ok(Found::if_any(!failures.is_empty() || !uncovered.is_empty()))
}

pub(super) fn diff(args: &Diff) -> Ended {
    let (old, new) = (load(&read_dir(&args.old, "cedar")?)?, load(&read_dir(&args.new, "cedar")?)?);
    let tables = read_tables(args.tables.as_deref())?;
    let mut differing = Vec::new();
    for question in tables.questions() {
        let (was, is) = (old.rule(question), new.rule(question));
        if was.decision != is.decision {
            differing.push((question.clone(), was, is));
        }
    }
    report_differences(args.output, tables.len(), &differing)
}

pub(super) fn report_differences(output: Output, asked: usize, differing: &[(Question, Ruling, Ruling)]) -> Ended {
    match output {
        Output::Json => {
            let rows: Vec<_> = differing
                .iter()
                .map(|(question, was, is)| serde_json::json!({ "question": question, "was": was, "is": is }))
                .collect();
            println!("{}", serde_json::json!({ "asked": asked, "differing": rows }));
        }
        Output::Text => {
            for (question, was, is) in differing {
                println!("was {was}\n is {is}\n  {}", serde_json::to_string(question).unwrap_or_default());
            }
            println!("{asked} decisions compared, {} differ", differing.len());
        }
    }
    Ok(Found::if_any(!differing.is_empty()))
}
