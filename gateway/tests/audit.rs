//! The audit log on a real directory: what is acknowledged is there, and nobody changes it unnoticed.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fhirwall::audit::read::{Filter, entries};
use fhirwall::audit::verify::{Anchors, Verification, verify, verify_chains};
use fhirwall::audit::{
    AuditConfig, AuditLog, AuditOpenError, AuditRecord, End, Kind, Problem, Record, SignedHead, SigningKey,
    VerifyingKey,
};
use fhirwall::clock::{Clock, FixedClock};
use tempfile::TempDir;

const NOW: i64 = 1_767_225_600;

struct Site {
    dir: TempDir,
    key: String,
    clock: FixedClock,
}

impl Site {
    fn new() -> Self {
        let (_, key) = SigningKey::generate().unwrap();
        Self { dir: tempfile::tempdir().unwrap(), key, clock: FixedClock::at(NOW) }
    }

    fn config(&self) -> AuditConfig {
        let key = SigningKey::from_pem(self.key.as_bytes()).unwrap();
        AuditConfig { reserve_bytes: 4096, ..AuditConfig::new(self.dir.path(), key) }
    }

    fn open(&self) -> Arc<AuditLog> {
        AuditLog::open(self.config(), Arc::new(self.clock.clone()) as Arc<dyn Clock>).unwrap()
    }

    fn public(&self) -> VerifyingKey {
        SigningKey::from_pem(self.key.as_bytes()).unwrap().verifying_key().clone()
    }

    fn verify(&self, head: Option<SignedHead>) -> Verification {
        verify(self.dir.path(), &Anchors { keys: vec![self.public()], head }).unwrap()
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("audit-{number:08}.ndjson"))
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.segment(1)).unwrap().lines().map(str::to_owned).collect()
    }

    fn write_lines(&self, lines: &[String]) {
        fs::write(self.segment(1), lines.concat_lines()).unwrap();
    }
}

trait ConcatLines {
    fn concat_lines(&self) -> String;
}

impl ConcatLines for [String] {
    fn concat_lines(&self) -> String {
        self.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn disclosure(n: u32) -> Record {
    Record::disclosure(AuditRecord {
        decision: format!("d{n}"),
        interaction: "read".to_owned(),
        patients: vec![format!("p{n}")],
        ..AuditRecord::default()
    })
}

/// A closed log of ten disclosures, signed at its end, and its head.
async fn ten() -> (Site, SignedHead) {
    let site = Site::new();
    let log = site.open();
    for n in 0..10 {
        log.record(disclosure(n)).await.unwrap();
    }
    let head = log.sign_head().await.unwrap();
    log.close().await;
    (site, head)
}

#[tokio::test]
async fn an_untouched_log_verifies_and_holds_every_record() {
    let (site, head) = ten().await;
    let result = site.verify(Some(head.clone()));
    assert_eq!(result.finding, None);
    assert_eq!((result.kinds["disclosure"], result.unsigned, result.first_seq), (10, 0, 1));
    assert_eq!(result.anchored_seq, Some(head.seq));
    let text = fs::read_to_string(site.segment(1)).unwrap();
    for n in 0..10 {
        assert!(text.contains(&format!("\"patients\":[\"p{n}\"]")));
    }
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart_and_across_segments() {
    let site = Site::new();
    for round in 0..3 {
        let config = AuditConfig { segment_bytes: 2048, ..site.config() };
        let log = AuditLog::open(config, Arc::new(site.clock.clone())).unwrap();
        for n in 0..10 {
            log.record(disclosure(round * 10 + n)).await.unwrap();
        }
        log.close().await;
    }
    let result = site.verify(None);
    assert_eq!(result.finding, None);
    assert_eq!(result.kinds["disclosure"], 30);
    assert!(result.segments > 3, "{} segments", result.segments);
}

#[tokio::test]
async fn concurrent_records_are_all_chained() {
    let site = Site::new();
    let log = site.open();
    let writes: Vec<_> = (0..200)
        .map(|n| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { log.record(disclosure(n)).await.unwrap().seq })
        })
        .collect();
    let mut seqs = Vec::new();
    for write in writes {
        seqs.push(write.await.unwrap());
    }
    seqs.sort_unstable();
    seqs.dedup();
    log.close().await;
    assert_eq!(seqs.len(), 200);
    assert_eq!(site.verify(None).finding, None);
}

#[tokio::test]
async fn a_note_is_chained_without_waiting() {
    let site = Site::new();
    let log = site.open();
    log.note(Record::end(End { decision: "d".to_owned(), bytes: 7, ..End::default() }));
    log.close().await;
    assert_eq!(site.verify(None).kinds["end"], 1);
}

#[track_caller]
fn finds(site: &Site, head: Option<SignedHead>, problem: Problem, seq: u64) {
    let finding = site.verify(head).finding.unwrap();
    assert_eq!((finding.problem, finding.seq), (problem, seq), "{finding:?}");
}

/// Writes the line again with a valid hash and link, as one can who knows the form but not the key.
fn forge(line: &str, from: &str, to: &str, prev: &str) -> (String, String) {
    let changed = line.replace(from, to);
    let (before, _) = changed.rsplit_once(",\"hash\":\"").unwrap();
    let (start, rest) = before.split_once("\"prev\":\"").unwrap();
    let hashed = format!("{start}\"prev\":\"{prev}{}", &rest[64..]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, hashed.as_bytes());
    let hash: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    (format!("{hashed},\"hash\":\"{hash}\"}}"), hash)
}

#[tokio::test]
async fn one_flipped_byte_is_found_wherever_it_is() {
    let (site, _) = ten().await;
    let whole = fs::read(site.segment(1)).unwrap();
    let mut seq = 1;
    for at in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(site.segment(1), &bytes).unwrap();
        let finding = site.verify(None).finding.unwrap();
        // A newline that is gone joins two records: the first of them is bad.
        assert_eq!(finding.seq, seq, "byte {at}: {finding:?}");
        if whole[at] == b'\n' {
            seq += 1;
        }
    }
}

#[tokio::test]
async fn a_removed_record_is_found() {
    let (site, _) = ten().await;
    let mut lines = site.lines();
    lines.remove(5);
    site.write_lines(&lines);
    finds(&site, None, Problem::Order, 6);
}

#[tokio::test]
async fn swapped_records_are_found() {
    let (site, _) = ten().await;
    let mut lines = site.lines();
    lines.swap(4, 7);
    site.write_lines(&lines);
    finds(&site, None, Problem::Order, 5);
}

#[tokio::test]
async fn a_truncated_file_is_found_against_the_anchored_head() {
    let (site, head) = ten().await;
    let mut lines = site.lines();
    lines.truncate(6);
    site.write_lines(&lines);
    finds(&site, Some(head.clone()), Problem::Truncated, 7);
    // The head kept beside the log tells as well, until somebody removes it too; the anchored one still does.
    finds(&site, None, Problem::Truncated, 7);
    fs::remove_file(site.dir.path().join("head.json")).unwrap();
    assert_eq!(site.verify(None).finding, None);
    finds(&site, Some(head), Problem::Truncated, 7);
}

#[tokio::test]
async fn a_tail_rewritten_without_the_key_is_found() {
    let (site, head) = ten().await;
    let mut lines = site.lines();
    let at = lines.iter().position(|line| line.contains("\"d5\"")).unwrap();
    let mut prev = lines[at - 1].rsplit_once(",\"hash\":\"").unwrap().1[..64].to_owned();
    for line in lines.iter_mut().skip(at) {
        (*line, prev) = forge(line, "\"p5\"", "\"p6\"", &prev);
    }
    site.write_lines(&lines);
    let signed_at = head.seq + 1;
    // The chain holds, but no key signed it.
    finds(&site, None, Problem::Rewritten, head.seq);
    fs::remove_file(site.dir.path().join("head.json")).unwrap();
    finds(&site, None, Problem::Signature, signed_at);
    // Without its heads it stands unsigned; the anchored head knows better.
    lines.truncate(lines.len() - 1);
    site.write_lines(&lines);
    assert!(site.verify(None).unsigned > 0);
    finds(&site, Some(head.clone()), Problem::Rewritten, head.seq);
}

#[tokio::test]
async fn a_log_signed_with_another_key_is_found() {
    let (site, head) = ten().await;
    let other = Site::new();
    let anchors = Anchors { keys: vec![other.public()], head: Some(head) };
    assert_eq!(verify(site.dir.path(), &anchors).unwrap().finding.unwrap().problem, Problem::Key);
}

#[tokio::test]
async fn a_new_signing_key_begins_a_segment_and_both_keys_verify() {
    let (mut site, _) = ten().await;
    let old = site.public();
    site.key = SigningKey::generate().unwrap().1;
    let log = site.open();
    log.record(disclosure(11)).await.unwrap();
    log.close().await;
    let with = |keys| verify(site.dir.path(), &Anchors { keys, head: None }).unwrap().finding.map(|f| f.problem);
    assert_eq!(with(vec![old.clone(), site.public()]), None);
    assert_eq!(with(vec![]), Some(Problem::Key));
    assert_eq!(with(vec![old]), Some(Problem::Key));
}

#[tokio::test]
async fn a_removed_segment_is_found() {
    let site = Site::new();
    let config = AuditConfig { segment_bytes: 1024, ..site.config() };
    let log = AuditLog::open(config, Arc::new(site.clock.clone())).unwrap();
    for n in 0..20 {
        log.record(disclosure(n)).await.unwrap();
    }
    log.close().await;
    let (first, second) = (fs::read(site.segment(1)).unwrap(), fs::read(site.segment(2)).unwrap());
    fs::remove_file(site.segment(2)).unwrap();
    assert_eq!(site.verify(None).finding.unwrap().problem, Problem::MissingSegment);
    fs::write(site.segment(2), second).unwrap();
    assert_eq!(site.verify(None).finding, None);
    fs::remove_file(site.segment(1)).unwrap();
    assert_eq!(site.verify(None).finding.unwrap().problem, Problem::Retention);
    fs::write(site.segment(1), first).unwrap();
    assert_eq!(site.verify(None).finding, None);
}

fn open_error(site: &Site) -> Option<Problem> {
    match AuditLog::open(site.config(), Arc::new(site.clock.clone())) {
        Err(AuditOpenError::Broken { problem, .. }) => Some(problem),
        Err(other) => panic_on(&other),
        Ok(_) => None,
    }
}

#[expect(clippy::panic, reason = "tests may stop at the first surprise")]
fn panic_on(error: &AuditOpenError) -> ! {
    panic!("{error}")
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_recorded_and_a_broken_chain_refused() {
    let (site, _) = ten().await;
    let whole = fs::read(site.segment(1)).unwrap();
    let torn = [&whole[..], b"{\"v\":1,\"seq\":13,\"ti"].concat();
    fs::write(site.segment(1), &torn).unwrap();
    let log = site.open();
    log.close().await;
    let result = site.verify(None);
    assert_eq!((result.finding, result.kinds["recovery"], result.torn_bytes), (None, 1, 0));

    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(site.segment(1), &flipped).unwrap();
    assert!(matches!(open_error(&site), Some(Problem::Line(_))));

    let cut = whole[..whole.len() / 2].iter().rposition(|b| *b == b'\n').unwrap();
    fs::write(site.segment(1), &whole[..=cut]).unwrap();
    assert_eq!(open_error(&site), Some(Problem::Truncated));

    fs::remove_file(site.segment(1)).unwrap();
    assert_eq!(open_error(&site), Some(Problem::Truncated));
}

#[tokio::test]
async fn a_second_writer_is_refused() {
    let site = Site::new();
    let log = site.open();
    let second = AuditLog::open(site.config(), Arc::new(site.clock.clone()));
    assert!(matches!(second, Err(AuditOpenError::Directory(_))));
    log.close().await;
    assert!(AuditLog::open(site.config(), Arc::new(site.clock.clone())).is_ok());
}

#[tokio::test]
async fn chains_beside_each_other_are_each_whole_and_read_as_one_log() {
    let site = Site::new();
    let beside = || AuditLog::open_beside(site.config(), Arc::new(site.clock.clone()) as Arc<dyn Clock>).unwrap();
    let first = site.open();
    first.record(disclosure(0)).await.unwrap();
    let second = beside();
    assert_eq!(second.dir(), site.dir.path().join("chain-2"));
    let third = beside();
    assert_eq!(third.dir(), site.dir.path().join("chain-3"));
    for (n, log) in [&second, &first, &third, &second].into_iter().enumerate() {
        site.clock.advance_seconds(1);
        log.record(disclosure(u32::try_from(n).unwrap() + 1)).await.unwrap();
    }
    // Whoever asks one of them finds what another wrote, in the order of time.
    assert!(third.decision("d1").unwrap().is_some());
    let filter = Filter { kinds: vec![Kind::Disclosure], ..Filter::default() };
    let decisions = || -> Vec<String> {
        let found = entries(site.dir.path(), None, &filter).unwrap();
        found.iter().map(|entry| entry.record().unwrap().decision).collect()
    };
    assert_eq!(decisions(), ["d0", "d1", "d2", "d3", "d4"]);
    let head = second.sign_head().await.unwrap();
    for log in [&first, &second, &third] {
        log.close().await;
    }
    let check = |head: Option<SignedHead>| {
        let chains = verify_chains(site.dir.path(), &Anchors { keys: vec![site.public()], head }).unwrap();
        assert_eq!(chains.len(), 3);
        chains
            .into_iter()
            .map(|(_, chain)| (chain.finding.map(|found| found.problem), chain.anchored_seq))
            .collect::<Vec<_>>()
    };
    let found = check(Some(head.clone()));
    assert!(found.iter().all(|(problem, _)| problem.is_none()), "{found:?}");
    assert!(found[1].1 >= Some(head.seq));
    // One that was cut off, or taken away, is found by its head.
    let segment = site.dir.path().join("chain-2/audit-00000001.ndjson");
    let text = fs::read_to_string(&segment).unwrap();
    let cut: Vec<&str> = text.lines().take(2).collect();
    fs::write(&segment, format!("{}\n", cut.join("\n"))).unwrap();
    assert_eq!(check(Some(head.clone()))[1].0, Some(Problem::Truncated));
    fs::write(&segment, text).unwrap();
    assert_eq!(check(Some(head.clone()))[1].0, None);
    let gone = SignedHead { chain: "another".to_owned(), ..head };
    assert!(check(Some(gone))[0].0.is_some());
    // The next process takes up the first that nobody writes, and a second writer is refused as ever.
    let next = beside();
    assert_eq!(next.dir(), site.dir.path());
    assert!(AuditLog::open(site.config(), Arc::new(site.clock.clone()) as Arc<dyn Clock>).is_err());
    next.close().await;
}

#[tokio::test]
async fn a_flood_of_anonymous_refusals_is_one_record() {
    use fhirwall_policy::reason::Reason;
    let site = Site::new();
    let log = site.open();
    let before = fs::metadata(site.segment(1)).unwrap().len();
    for _ in 0..100_000 {
        log.refusals().count(Reason::NoCredentials, site.clock.now());
    }
    log.close().await;
    let result = site.verify(None);
    assert_eq!(result.kinds["refusal-aggregate"], 1);
    assert!(fs::metadata(site.segment(1)).unwrap().len() - before < 2048);
}

#[test]
fn records_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    drop(site.open());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&site.segment(1)), 0o600);
}
