//! NDJSON (Bulk Data) in windows: memory is bounded by one window and the longest line, whatever the file's length.
//!
//! Each line is a document of its own. A line that cannot be understood ends the stream: what follows it is not sent.

use super::document::Document;
use super::facts::{Judge, Limits, ScanError};
use super::redact::{RedactError, RedactOptions, Removal};
use super::scan::scan;
use crate::labeller::Labeller;

/// Cuts a stream of bytes into whole lines.
#[derive(Default)]
pub struct LineWindows {
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
}

/// Content never prints.
impl core::fmt::Debug for LineWindows {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LineWindows").field("carried", &self.carry.len()).finish()
    }
}

impl LineWindows {
    pub const fn new() -> Self {
        Self { carry: Vec::new() }
    }

    /// Takes the next bytes and gives the lines that are whole now, each with its line feed. Refuses a line longer than
    /// `max_line` bytes.
    pub fn push(&mut self, bytes: &[u8], max_line: usize) -> Result<Vec<u8>, ScanError> {
        let (whole, rest) = match memchr::memrchr(b'\n', bytes) {
            Some(end) => bytes.split_at_checked(end + 1).unwrap_or((bytes, &[])),
            None => (&[][..], bytes),
        };
        let mut lines = Vec::new();
        if !whole.is_empty() {
            lines = core::mem::take(&mut self.carry);
            lines.extend_from_slice(whole);
        }
        if self.carry.len() + rest.len() > max_line {
            return Err(ScanError::TooLarge);
        }
        self.carry.extend_from_slice(rest);
        Ok(lines)
    }

    /// The last line, if it came without a line feed.
    pub fn finish(self) -> Vec<u8> {
        self.carry
    }
}

/// The lines of a window, without their line feeds.
pub fn lines(window: &[u8]) -> impl Iterator<Item = &[u8]> {
    window.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// What may be seen of a window of lines.
#[derive(Default)]
pub struct RedactedLines {
    pub body: Vec<u8>,
    /// By line of the window, counted from 0; paths are those of the line's document.
    pub removals: Vec<(u32, Removal)>,
    /// Lines that are shown, and lines that are not.
    pub shown: u32,
    pub withheld: u32,
}

/// The body never prints.
impl core::fmt::Debug for RedactedLines {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RedactedLines")
            .field("shown", &self.shown)
            .field("withheld", &self.withheld)
            .finish_non_exhaustive()
    }
}

/// Redacts a window of whole lines. `judge_of` gives the judge for each line's document, when it is known what is in it.
///
/// A withheld line is absent, with its line feed. Empty lines stay. The first line that cannot be understood is an
/// error, with nothing of the window to send.
pub fn redact_lines<J: Judge>(
    window: &[u8],
    limits: &Limits,
    labeller: &Labeller,
    date: &str,
    judge_of: &mut dyn FnMut(&Document<'_>) -> J,
    options: &RedactOptions<'_>,
) -> Result<RedactedLines, ScanError> {
    let mut redacted = RedactedLines::default();
    for (line, number) in window.split_inclusive(|byte| *byte == b'\n').zip(0u32..) {
        let (text, feed) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
        if text.trim_ascii().is_empty() {
            redacted.body.extend_from_slice(line);
            continue;
        }
        let document = scan(text, limits, labeller, date)?;
        match document.redact(&judge_of(&document), options) {
            Ok(shown) => {
                redacted.shown += 1;
                redacted.body.extend_from_slice(&shown.body);
                redacted.body.extend_from_slice(if feed { b"\n" } else { b"" });
                redacted.removals.extend(shown.removals.into_iter().map(|removal| (number, removal)));
            }
            Err(RedactError::RootWithheld { removals }) => {
                redacted.withheld += 1;
                redacted.removals.extend(removals.into_iter().map(|removal| (number, removal)));
            }
        }
    }
    Ok(redacted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ResourceFacts, Style, Verdict};
    use crate::label::{Label, LabelSet};
    use crate::reference::Reference;

    struct NoPart2;

    impl Judge for NoPart2 {
        fn resource(&self, _: u32, facts: &ResourceFacts) -> Verdict {
            if facts.labels.contains(Label::PART2) { Verdict::Withhold { rule: 0 } } else { Verdict::Show }
        }
        fn element(&self, _: u32, _: &ResourceFacts, _: LabelSet) -> Verdict {
            Verdict::Show
        }
        fn reference(&self, _: &Reference) -> Verdict {
            Verdict::Show
        }
        fn link(&self, _: &str, _: &str) -> Option<String> {
            None
        }
    }

    const PLAIN: &str = "{\"resourceType\":\"Basic\", \"id\":\"é\"}\n";
    const SECRET: &str = "{\"resourceType\":\"Basic\",\"meta\":{\"security\":[{\"system\":\"http://terminology.hl7.org/CodeSystem/v3-ActCode\",\"code\":\"42CFRPart2\"}]}}\n";

    fn redacted_in_windows(input: &[u8], size: usize) -> Result<(Vec<u8>, usize), ScanError> {
        let labeller = Labeller::default();
        let options = RedactOptions::verbatim(Style::Silent);
        let redact = |window: &[u8]| {
            redact_lines(window, &Limits::default(), &labeller, "2026-11-22", &mut |_| NoPart2, &options)
        };
        let mut windows = LineWindows::new();
        let mut out = Vec::new();
        let mut held = 0;
        for bytes in input.chunks(size) {
            let whole = windows.push(bytes, 1000)?;
            held = held.max(whole.len() + windows.carry.len());
            out.extend(redact(&whole)?.body);
        }
        out.extend(redact(&windows.finish())?.body);
        Ok((out, held))
    }

    #[test]
    fn windows_of_any_size_give_the_same_lines_in_bounded_memory() {
        let input = format!("{PLAIN}{SECRET}\n{PLAIN}{SECRET}{PLAIN}").repeat(20);
        let expected = format!("{PLAIN}\n{PLAIN}{PLAIN}").repeat(20);
        for size in [1, 2, 7, 64, 500, 100_000] {
            let (out, held) = redacted_in_windows(input.as_bytes(), size).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "windows of {size}");
            assert!(held <= size + SECRET.len() + PLAIN.len());
        }
        let (out, _) = redacted_in_windows(format!("{SECRET}{}", PLAIN.trim_end()).as_bytes(), 10).unwrap();
        assert_eq!(out, PLAIN.trim_end().as_bytes(), "a last line without a line feed stays without one");
    }

    #[test]
    fn a_line_that_is_no_resource_or_too_long_ends_the_stream() {
        assert_eq!(redacted_in_windows(b"{\"resourceType\":\"Basic\"} {}\n", 9).err(), Some(ScanError::Syntax));
        assert_eq!(redacted_in_windows(b"[]\n", 9).err(), Some(ScanError::NotAResource));
        let long = format!("{{\"resourceType\":\"Basic\",\"x\":\"{}\"}}\n", "x".repeat(2000));
        assert_eq!(redacted_in_windows(long.as_bytes(), 9).err(), Some(ScanError::TooLarge));
    }
}
