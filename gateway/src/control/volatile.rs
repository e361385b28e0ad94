//! Which file systems keep nothing: a record there is gone with the machine.

use std::path::Path;

/// The kind of file system that a directory is on, or will be, if that keeps its files in memory alone.
pub(super) fn file_system(dir: &Path) -> Option<&'static str> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    of(dir, &mounts)
}

/// The last mount whose point is the longest beginning of the path holds it (proc_pid_mountinfo(5)).
fn of(dir: &Path, mounts: &str) -> Option<&'static str> {
    let mut holds = (0, None);
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(|point| point.replace("\\040", " ")) else { continue };
        let kind = right.split(' ').next();
        let depth = Path::new(&point).components().count();
        if dir.starts_with(&point) && depth >= holds.0 {
            holds = (depth, kind.and_then(|kind| ["tmpfs", "ramfs"].into_iter().find(|one| *one == kind)));
        }
    }
    holds.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=1024k
31 22 0:26 / /var/lib/fhirwall rw - ramfs none rw
32 31 254:1 / /var/lib/fhirwall/audit rw - ext4 /dev/vdb rw
33 22 0:27 / /mnt/with\\040space rw - tmpfs tmpfs rw
";

    #[track_caller]
    fn is(dir: &str, kind: Option<&str>) {
        assert_eq!(of(Path::new(dir), MOUNTS), kind, "{dir}");
    }

    #[test]
    fn a_directory_in_memory_is_told_from_a_lasting_one() {
        is("/var/lib/other", None);
        is("/run/fhirwall/audit", Some("tmpfs"));
        is("/var/lib/fhirwall/state", Some("ramfs"));
        // A lasting volume within, though its neighbour is not.
        is("/var/lib/fhirwall/audit/north", None);
        is("/var/lib/fhirwall/audit2", Some("ramfs"));
        is("/running", None);
        is("/mnt/with space/audit", Some("tmpfs"));
    }
}
