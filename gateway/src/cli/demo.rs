//! `fhirwall demo`: the gateway with everything around it, a tour, and then an afternoon's playground.

use std::io::stdout;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anstream::{AutoStream, eprintln};
use anyhow::Context as _;

use crate::cli::exit;
use crate::clock::{Clock as _, SystemClock};
use crate::demo::tour::screen::Screen;
use crate::demo::tour::{Guide, welcome};
use crate::demo::world::{Neighbours, World};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where the gateway listens; without it 127.0.0.1:8443, or with --once a free port.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// An empty directory for certificates, configuration, audit log and `demo.json`; without it ./fhirwall-demo, or with
    /// --once a directory that goes away afterwards.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Make the tour, check its own results, exit 0 or 1.
    #[arg(long)]
    once: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("cannot start").and_then(|runtime| runtime.block_on(show(&args)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::FINDINGS),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::USAGE)
        }
    }
}

async fn show(args: &Args) -> anyhow::Result<bool> {
    let temporary = std::env::temp_dir().join(format!("fhirwall-demo-{}", uuid::Uuid::new_v4().simple()));
    let (dir, listen) = if args.once {
        (args.dir.as_deref().unwrap_or(&temporary), args.listen)
    } else {
        let usual = SocketAddr::from(([127, 0, 0, 1], 8443));
        (args.dir.as_deref().unwrap_or_else(|| Path::new("fhirwall-demo")), Some(args.listen.unwrap_or(usual)))
    };
    let outcome = tour(args, dir, listen).await;
    if args.once && args.dir.is_none() {
        // It held nothing but the demo's own keys and records.
        drop(std::fs::remove_dir_all(&temporary));
    }
    outcome
}

async fn tour(args: &Args, dir: &Path, listen: Option<SocketAddr>) -> anyhow::Result<bool> {
    let world = World::between(Neighbours::start(dir, listen).await?)?;
    let mut screen = Screen::new(Box::new(AutoStream::auto(stdout())));
    welcome::hello(&mut screen, &world);
    let held = Guide::new(&world, &mut screen, Arc::new(SystemClock))?.lead().await?;
    world.give_consent(SystemClock.now());
    world.consents_changed("amara-osei").await?;
    world.write_demo_json()?;
    if args.once {
        world.stop().await;
        return Ok(held);
    }
    welcome::invitation(&mut screen, &world)?;
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    world.stop().await;
    Ok(held)
}
