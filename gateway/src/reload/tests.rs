use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::FixedClock;
use crate::config::tests::{Site, env};
use crate::config::{Config, Mode};

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::at(1_800_000_000))
}

fn config_build() -> Build<Config> {
    Box::new(|path, _| {
        let config = Config::load(path, &env)?;
        Ok(Built { files: config.files(), generation: config })
    })
}

fn started(site: &Site) -> Reloader<Config> {
    Reloader::start(&site.path("fhirwall.yaml"), config_build(), clock()).unwrap()
}

/// Puts a file in place the way an operator should: whole, by renaming.
fn put(site: &Site, file: &str, text: &str) {
    let new = site.path(".new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, site.path(file)).unwrap();
}

fn text(site: &Site, file: &str) -> String {
    std::fs::read_to_string(site.path(file)).unwrap()
}

#[test]
fn a_good_change_goes_live_and_a_bad_one_never_does() {
    let site = Site::good();
    let mut reloader = started(&site);
    let live = reloader.live();
    assert_eq!(reloader.attempt(false), Attempt::Unchanged);
    site.patch("fhirwall.yaml", "mode: enforce", "mode: observe");
    assert_eq!(reloader.attempt(false), Attempt::Live(2));
    assert_eq!(live.current().generation.gateway.mode, Mode::Observe);
    site.patch("partners/portal.yaml", "dpop: required", "dpop: optional");
    assert_eq!(reloader.attempt(false), Attempt::Rejected);
    assert_eq!(live.current().number, 2);
    let status = live.status();
    assert_eq!((status.generation, status.succeeded, status.failed), (2, 1, 1));
    assert!(status.rejected.unwrap().problems.contains("portal.yaml"));
    // The same bad files are refused once, not again and again.
    assert_eq!(reloader.attempt(false), Attempt::Unchanged);
    site.patch("partners/portal.yaml", "dpop: optional", "dpop: required");
    assert_eq!(reloader.attempt(false), Attempt::Live(3));
    assert_eq!(live.status().rejected, None);
}

#[test]
fn without_a_good_configuration_there_is_no_start() {
    let site = Site::good();
    site.patch("fhirwall.yaml", "kind: Gateway", "kind: Gatewax");
    let refused = Reloader::start(&site.path("fhirwall.yaml"), config_build(), clock()).unwrap_err();
    assert!(refused.problems.contains("Gatewax"));
}

#[test]
fn partners_policies_and_named_files_count_as_configuration() {
    let site = Site::good();
    let mut reloader = started(&site);
    std::fs::remove_file(site.path("partners/portal.yaml")).unwrap();
    assert_eq!(reloader.attempt(false), Attempt::Live(2));
    put(&site, "policies/more.cedar", "// nothing\n");
    assert_eq!(reloader.attempt(false), Attempt::Live(3));
    std::fs::create_dir(site.path("tls")).unwrap();
    put(&site, "tls/server.pem", "another certificate");
    assert_eq!(reloader.attempt(false), Attempt::Live(4));
    put(&site, "tls/partners.crl", "another list");
    assert_eq!(reloader.attempt(false), Attempt::Live(5));
    put(&site, "tls/of-nobody.pem", "unrelated");
    assert_eq!(reloader.attempt(false), Attempt::Unchanged);
    assert_eq!(reloader.attempt(true), Attempt::Live(6));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    let site = Site::good();
    let path = site.path("fhirwall.yaml");
    let good = text(&site, "fhirwall.yaml");
    let writes = Arc::new(AtomicU64::new(0));
    let build: Build<Config> = {
        let (writes, good) = (Arc::clone(&writes), good.clone());
        Box::new(move |path, _| {
            let config = Config::load(path, &env)?;
            // The writer is still at it, three times.
            if writes.load(Ordering::SeqCst) > 0 {
                let left = writes.fetch_sub(1, Ordering::SeqCst);
                std::fs::write(path, good.replace("linger: 5s", &format!("linger: {left}s"))).unwrap();
            }
            Ok(Built { files: config.files(), generation: config })
        })
    };
    let mut reloader = Reloader::start(&path, build, clock()).unwrap();
    writes.store(3, Ordering::SeqCst);
    site.patch("fhirwall.yaml", "linger: 5s", "linger: 9s");
    assert_eq!(reloader.attempt(false), Attempt::Live(2));
    let live = reloader.live().current();
    assert_eq!(live.generation.gateway.shutdown.linger, Duration::from_secs(1));
    assert!(text(&site, "fhirwall.yaml").contains("linger: 1s"));
    writes.store(50, Ordering::SeqCst);
    site.patch("fhirwall.yaml", "linger: 1s", "linger: 9s");
    assert_eq!(reloader.attempt(false), Attempt::Unsettled);
    assert_eq!(reloader.live().current().number, 2);
}

#[test]
fn a_missing_file_that_appears_is_a_reason_to_try_again() {
    let site = Site::good();
    let mut reloader = started(&site);
    site.patch("partners/portal.yaml", "type: public", "type: confidential-asymmetric\njwks_file: portal.jwks");
    assert_eq!(reloader.attempt(false), Attempt::Rejected);
    put(&site, "partners/portal.jwks", &text(&site, "partners/reporting.jwks"));
    assert_eq!(reloader.attempt(false), Attempt::Live(2));
}

/// A small generator (SplitMix64): the same changes on every run.
struct Changes(u64);

impl Changes {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn five_hundred_reloads_good_bad_torn_and_rapid_leave_only_good_generations_live() {
    let site = Site::good();
    let good = text(&site, "fhirwall.yaml");
    let mut reloader = started(&site);
    let live = reloader.live();
    let mut changes = Changes(7);
    let (mut expected, mut number, mut rejected) = (5, 1, 0);
    for step in 0..500 {
        let seconds = 1 + (step % 59);
        let next = good.replace("linger: 5s", &format!("linger: {seconds}s"));
        match changes.below(4) {
            0 => put(&site, "fhirwall.yaml", &next),
            // Bad: an unknown key, or a protection gone.
            1 => put(&site, "fhirwall.yaml", &next.replace("unreadable: deny", "unreadable: permit")),
            // Torn: written in place, and cut off in the middle of a required section.
            2 => {
                let end = next.find("endpoints:").unwrap();
                let cut = usize::try_from(changes.below(end as u64)).unwrap();
                std::fs::write(site.path("fhirwall.yaml"), &next.as_bytes()[..cut]).unwrap();
            }
            // Rapid: several before anyone looks.
            _ => {
                for _ in 0..3 {
                    put(&site, "fhirwall.yaml", "kind: nothing");
                    put(&site, "fhirwall.yaml", &next);
                }
            }
        }
        match reloader.attempt(false) {
            Attempt::Live(new) => {
                number += 1;
                assert_eq!(new, number, "generations are counted without a gap");
                expected = seconds;
            }
            Attempt::Rejected => rejected += 1,
            Attempt::Unchanged => {}
            Attempt::Unsettled => panic!("nobody writes while it is read"),
        }
        let current = live.current();
        assert_eq!(current.number, number);
        assert_eq!(current.generation.gateway.shutdown.linger, Duration::from_secs(expected));
        assert_eq!(
            live.status().rejected.is_some(),
            text(&site, "fhirwall.yaml") != text_of(&current.generation, &good)
        );
    }
    assert!(number > 150 && rejected > 150, "{number} {rejected}");
    let status = live.status();
    assert_eq!((status.succeeded, status.failed), (number - 1, rejected));
}

fn text_of(config: &Config, good: &str) -> String {
    good.replace("linger: 5s", &format!("linger: {}s", config.gateway.shutdown.linger.as_secs()))
}

fn fast() -> Timing {
    Timing { settle: Duration::from_millis(5), at_most: Duration::from_millis(200), look: Duration::from_secs(60) }
}

/// Waits for a status; the file system's notification is what is tested, so there is a deadline and no clock to set.
async fn status(live: &Live<Config>, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut statuses = live.subscribe();
    let status = tokio::time::timeout(Duration::from_secs(20), statuses.wait_for(wanted)).await;
    status.expect("no such status in time").unwrap().clone()
}

#[tokio::test]
async fn the_watcher_sees_renames_writes_in_place_and_requests() {
    let site = Site::good();
    let reloader = started(&site);
    let live = reloader.live();
    let trigger = reloader.watch(fast()).unwrap();
    put(&site, "fhirwall.yaml", &text(&site, "fhirwall.yaml").replace("linger: 5s", "linger: 6s"));
    status(&live, |status| status.generation == 2).await;
    site.patch("fhirwall.yaml", "linger: 6s", "linger: 7s");
    status(&live, |status| status.generation >= 3 && status.rejected.is_none()).await;
    assert_eq!(live.current().generation.gateway.shutdown.linger, Duration::from_secs(7));
    site.patch("partners/portal.yaml", "type: public", "type: pubic");
    status(&live, |status| status.rejected.is_some()).await;
    let before = live.current().number;
    site.patch("partners/portal.yaml", "type: pubic", "type: public");
    status(&live, |status| status.rejected.is_none()).await;
    trigger.reload();
    status(&live, |status| status.generation >= before + 2).await;
}

#[tokio::test]
async fn the_watcher_follows_kubernetes_swapping_its_data_link() {
    // A mounted ConfigMap: files are links to ..data/file, ..data a link to a directory named by time.
    let site = Site::good();
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path();
    let write = |version: &str, text: &str| {
        let dir = root.join(version);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("fhirwall.yaml"), text).unwrap();
        std::os::unix::fs::symlink(version, root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    let good = text(&site, "fhirwall.yaml")
        .replace("{dir: p", &format!("{{dir: {}/p", site.path("").display()))
        .replace("[lists/", &format!("[{}/lists/", site.path("").display()));
    write("..2026_01", &good);
    std::os::unix::fs::symlink("..data/fhirwall.yaml", root.join("fhirwall.yaml")).unwrap();
    let reloader = Reloader::start(&root.join("fhirwall.yaml"), config_build(), clock()).unwrap();
    let live = reloader.live();
    let _trigger = reloader.watch(fast()).unwrap();
    for (generation, seconds) in (2..6).zip(10..) {
        let version = format!("..2026_{seconds}");
        write(&version, &good.replace("linger: 5s", &format!("linger: {seconds}s")));
        status(&live, |status| status.generation == generation).await;
        assert_eq!(live.current().generation.gateway.shutdown.linger, Duration::from_secs(seconds));
    }
}
