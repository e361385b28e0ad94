//! CPU time of a process, from the scheduler's own account.

use std::path::PathBuf;

/// Nanoseconds that the threads of these processes have been on a CPU.
pub fn on_cpu_nanoseconds(pids: &[u32]) -> u64 {
    pids.iter().flat_map(|pid| tasks(*pid)).filter_map(|task| on_cpu(&task)).sum()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.path().join("schedstat")).collect()
}

fn on_cpu(schedstat: &PathBuf) -> Option<u64> {
    std::fs::read_to_string(schedstat).ok()?.split_whitespace().next()?.parse().ok()
}

/// The memory of these processes that is in RAM (proc_pid_status(5), `VmRSS`).
pub fn resident_bytes(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>().saturating_mul(1024)
}

/// The process and all that it started.
pub fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        family.extend(self::family(child));
    }
    family
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
