//! What the gateway's process holds: memory, descriptors, connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::load::Heard;

/// How far memory may still grow from the first quarter after the warm-up to the last quarter.
const GROWTH: u64 = 16 * 1024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Duration,
    /// KiB resident.
    memory: u64,
    pub(crate) descriptors: usize,
    connections: usize,
}

fn sample(pid: u32, begun: Instant) -> Sample {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the gateway lives");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.trim().trim_end_matches(" kB").parse().unwrap();
    let (mut descriptors, mut connections) = (0, 0);
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map_while(Result::ok) {
        // One may be closed meanwhile.
        let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
        descriptors += 1;
        connections += usize::from(target.to_string_lossy().starts_with("socket:"));
    }
    Sample { at: begun.elapsed(), memory, descriptors, connections }
}

/// What is held when it is no more than `enough`, or when nothing was let go for 70 seconds (35 where nothing is `enough`); looked at for at most 150. An idle
/// connection is let go after 30 to 60 seconds.
pub(crate) async fn settled(pid: u32, enough: usize) -> Sample {
    let begun = Instant::now();
    let (mut lowest, mut since) = (sample(pid, begun), Instant::now());
    let patience = if enough > 0 { 70 } else { 35 };
    while lowest.descriptors > enough
        && begun.elapsed() < Duration::from_secs(150)
        && since.elapsed() < Duration::from_secs(patience)
    {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = sample(pid, begun);
        if now.descriptors < lowest.descriptors {
            (lowest, since) = (now, Instant::now());
        }
    }
    lowest
}

/// The open TCP connections of a process to each of these ports, by state (proc(5), net/tcp).
pub(crate) fn connections_to(pid: u32, neighbours: &[(&str, u16)]) -> BTreeMap<String, usize> {
    let own: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map_while(Result::ok)
        .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (remote, state, inode) = (fields[2], fields[3], fields[9]);
        let port = u16::from_str_radix(remote.rsplit(':').next().unwrap(), 16).unwrap();
        if own.contains(inode) && state != "0A" {
            let whom = neighbours.iter().find(|(_, own)| *own == port).map_or("others", |(name, _)| name);
            let state = match state {
                "01" => "open",
                "08" => "closed by the other side",
                _ => "closing",
            };
            *counts.entry(format!("{whom}, {state}")).or_default() += 1;
        }
    }
    counts
}

/// Samples as they are taken.
pub(crate) struct Samples {
    task: JoinHandle<Vec<Sample>>,
    done: Arc<AtomicBool>,
}

impl Samples {
    /// Takes one each second, and prints one each minute.
    pub(crate) fn of(pid: u32, heard: Arc<Heard>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let task = tokio::spawn(async move {
            let (begun, mut taken) = (Instant::now(), Vec::new());
            println!("minute  resident KiB  descriptors  sockets  requests");
            while !told.load(Ordering::Relaxed) {
                let now = sample(pid, begun);
                if taken.len().is_multiple_of(60) {
                    let minute = now.at.as_secs() / 60;
                    let asked = heard.asked();
                    println!(
                        "{minute:>6}  {:>12}  {:>11}  {:>7}  {asked:>8}",
                        now.memory, now.descriptors, now.connections
                    );
                }
                taken.push(now);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            taken
        });
        Self { task, done }
    }

    pub(crate) async fn end(self) -> Taken {
        self.done.store(true, Ordering::Relaxed);
        Taken(self.task.await.unwrap())
    }
}

/// All samples.
pub(crate) struct Taken(Vec<Sample>);

impl Taken {
    /// After the first quarter, the warm-up, memory is level.
    pub(crate) fn hold(&self) {
        let warm = &self.0[self.0.len() / 4..];
        let quarter = warm.len() / 4;
        let (early, late) = (median(&warm[..quarter]), median(&warm[warm.len() - quarter..]));
        println!(
            "resident after the warm-up: {early} KiB at first, {late} KiB at last, {:+.1} KiB a minute over {:.1} minutes; at most {} KiB",
            slope(warm),
            (warm[warm.len() - 1].at - warm[0].at).as_secs_f64() / 60.0,
            warm.iter().map(|sample| sample.memory).max().unwrap(),
        );
        let most = |of: fn(&Sample) -> usize| self.0.iter().map(of).max().unwrap();
        println!("at most {} descriptors, {} sockets", most(|one| one.descriptors), most(|one| one.connections));
        assert!(late <= early + GROWTH, "memory grew by {} KiB, more than {GROWTH}", late - early);
    }
}

fn median(samples: &[Sample]) -> u64 {
    let mut memory: Vec<u64> = samples.iter().map(|sample| sample.memory).collect();
    memory.sort_unstable();
    memory[memory.len() / 2]
}

/// KiB a minute, by least squares.
#[expect(clippy::cast_precision_loss, reason = "kibibytes")]
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let point = |sample: &Sample| (sample.at.as_secs_f64() / 60.0, sample.memory as f64);
    let (x, y) =
        samples.iter().map(point).fold((0.0, 0.0), |(x, y), (at, memory)| (x + at / count, y + memory / count));
    let (above, below) = samples.iter().map(point).fold((0.0, 0.0), |(above, below), (at, memory)| {
        ((at - x).mul_add(memory - y, above), (at - x).mul_add(at - x, below))
    });
    above / below
}
