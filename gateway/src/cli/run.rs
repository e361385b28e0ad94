//! `fhirwall run`: the gateway on pingora's server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};

use super::supervised;
use crate::clock::SystemClock;
use crate::config::{Config, LogFormat, LogLevel};
use crate::reload::{Timing, hangups};
use crate::serve::{Ending, Start, prepare_as};
use crate::telemetry::Telemetry;

/// Serves until SIGTERM or SIGINT. SIGHUP looks at the files again; SIGUSR2 starts the program anew, which takes over.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The gateway's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Take over from the process that serves (`shutdown.upgrade_socket`): no connection is refused, and that process
    /// finishes what it has. Where none serves, this is an ordinary start.
    #[arg(long)]
    upgrade: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(threads.min(2)).enable_all().build()
    else {
        anstream::eprintln!("the system gives no threads");
        return ExitCode::from(super::exit::OUT_OF_REACH);
    };
    let guard = runtime.enter();
    // What is wrong with the file is told below, when the gateway is prepared.
    let telemetry = Config::load(&args.config, &|name| std::env::var(name).ok());
    let telemetry = telemetry.map(|config| config.gateway.telemetry.clone()).ok();
    let collector = telemetry.as_ref().and_then(|told| told.otlp_endpoint.as_ref()).map(|url| url.base().to_owned());
    let format = telemetry.as_ref().map_or(LogFormat::Json, |told| told.log_format);
    let level = telemetry.map_or("info", |told| match told.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    });
    let filter = std::env::var("FHIRWALL_LOG").unwrap_or_else(|_| level.to_owned());
    let telemetry = match Telemetry::start(collector.as_deref(), &filter, format) {
        Ok(telemetry) => telemetry,
        Err(error) => return refused(&error),
    };
    let start = if args.upgrade { Start::Upgrade } else { Start::Anew };
    let prepared = match prepare_as(start, &args.config, Arc::new(SystemClock), Timing::default()) {
        Ok(prepared) => prepared,
        Err(error) => return refused(&error),
    };
    let shutdown = prepared.live.current().generation.config.gateway.shutdown.clone();
    runtime.spawn(async_hangups(prepared.trigger.clone()));
    let (services, ending) = match prepared.into_parts() {
        Ok(parts) => parts,
        Err(error) => return refused(&error),
    };
    drop(guard);
    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads,
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(1),
            ..ServerConf::default()
        },
    );
    server.bootstrap();
    for service in services {
        server.add_service(service);
    }
    if let Err(error) = supervised::ready() {
        tracing::warn!(%error, "the service manager does not hear that this process serves");
    }
    let signal = Ends {
        handed: ending.handed_over(),
        ending: Mutex::new(Some(ending)),
        linger: shutdown.linger,
        drain: shutdown.drain,
        runtime: runtime.handle().clone(),
    };
    server.run(RunArgs { shutdown_signal: Box::new(signal) });
    runtime.shutdown_timeout(Duration::from_secs(1));
    telemetry.stop();
    ExitCode::SUCCESS
}

fn refused(error: &dyn std::error::Error) -> ExitCode {
    anstream::eprintln!("{}", crate::serve::chain(error));
    ExitCode::from(super::exit::USAGE)
}

async fn async_hangups(trigger: crate::reload::Trigger) {
    if let Err(error) = hangups(trigger).await {
        tracing::warn!(%error, "SIGHUP is not heard; changes of the files still are");
    }
}

/// Waits for the end, drains, and only then tells pingora to stop.
struct Ends {
    handed: watch::Receiver<bool>,
    ending: Mutex<Option<Ending>>,
    linger: Duration,
    drain: Duration,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl ShutdownSignalWatch for Ends {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return ShutdownSignal::FastShutdown;
        };
        let Ok(mut exchange) = signal(SignalKind::user_defined2()) else { return ShutdownSignal::FastShutdown };
        let mut handed = self.handed.clone();
        let linger = loop {
            tokio::select! {
                _ = terminate.recv() => break self.linger,
                _ = interrupt.recv() => break Duration::ZERO,
                Ok(_) = handed.wait_for(|handed| *handed) => break Duration::ZERO,
                _ = exchange.recv() => supervised::start_successor(),
            }
        };
        tracing::info!("ending: requests under way are finished");
        if let Some(ending) = self.ending.lock().await.take() {
            let drain = self.drain;
            let ended = self.runtime.spawn(async move { ending.end(linger, drain).await });
            if ended.await.is_err() {
                tracing::error!("the end was not orderly");
            }
        }
        ShutdownSignal::FastShutdown
    }
}
