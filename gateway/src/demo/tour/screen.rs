//! What the tour looks like: a terminal of 100 columns, with colour where there is a terminal.

use std::io::Write;

use anstyle::{AnsiColor, Style};

use super::bundle::{Change, Diff};

const WIDTH: usize = 100;
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const TITLE: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const GONE: Style = AnsiColor::Red.on_default();
const CHANGED: Style = AnsiColor::Yellow.on_default();
const ADDED: Style = AnsiColor::Green.on_default();

/// Where the tour is shown. It counts the checks that were made, and those that failed.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    stops: usize,
    held: usize,
    failed: Vec<String>,
}

impl Screen {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, stops: 0, held: 0, failed: Vec::new() }
    }

    /// Begins a stop of the tour.
    pub(crate) fn stop(&mut self, title: &str) {
        self.stops += 1;
        let title = format!(" {}  {title} ", self.stops);
        let rule = "─".repeat(WIDTH.saturating_sub(title.chars().count() + 2));
        self.line(&format!("\n{DIM}──{DIM:#}{TITLE}{title}{TITLE:#}{DIM}{rule}{DIM:#}\n"));
    }

    /// A paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        for line in wrap(text, WIDTH - 4) {
            self.line(format!("  {line}").trim_end());
        }
    }

    /// A request that is about to be sent.
    pub(crate) fn request(&mut self, method: &str, target: &str, who: &str) {
        let used = 2 + method.len() + 1 + target.chars().count();
        let gap = " ".repeat(WIDTH.saturating_sub(used + who.len() + 6).max(2));
        self.line(&format!("\n  {BOLD}{method} {target}{BOLD:#}{gap}{DIM}as {who}{DIM:#}\n"));
    }

    /// What came back, in one line.
    pub(crate) fn answer(&mut self, text: &str) {
        for line in wrap(text, WIDTH - 8) {
            self.line(&format!("      {line}"));
        }
    }

    /// A name and what is known under it.
    pub(crate) fn fact(&mut self, name: &str, text: &str) {
        const NAME: usize = 26;
        for (at, line) in wrap(text, WIDTH - NAME - 7).iter().enumerate() {
            let name = if at == 0 { fit(name, NAME) } else { String::new() };
            self.line(&format!("      {DIM}{name:<NAME$}{DIM:#} {line}"));
        }
    }

    /// Quoted text, dimmed and cut at the edge.
    pub(crate) fn quote(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("      {DIM}{}{DIM:#}", fit(line, WIDTH - 6)));
        }
    }

    /// What differs between what the EHR holds and what the app got.
    pub(crate) fn diff(&mut self, diff: &Diff) {
        for (change, row) in &diff.rows {
            let (mark, style) = match change {
                Change::Same => (' ', Style::new()),
                Change::Gone => ('-', GONE),
                Change::Altered => ('~', CHANGED),
                Change::Added => ('+', ADDED),
            };
            let room = WIDTH - 6;
            let text = format!("{:<36} {}", fit(&row.reference, 36), row.summary);
            let text = fit(&text, room);
            let space = room.saturating_sub(text.chars().count() + 2);
            let labels = if row.labels.is_empty() || space < 4 {
                String::new()
            } else {
                format!("  {}", fit(&row.labels, space))
            };
            self.line(&format!("    {style}{mark} {}{style:#}{DIM}{labels}{DIM:#}", text.trim_end()));
            for detail in &row.details {
                self.line(&format!("        {CHANGED}{}{CHANGED:#}", fit(detail, WIDTH - 8)));
            }
        }
        self.line("");
    }

    /// A row of two columns: what was tried, what came of it.
    pub(crate) fn row(&mut self, left: &str, right: &str, held: bool) {
        let (mark, style) = if held { ('✓', GOOD) } else { ('✗', BAD) };
        self.line(&format!("  {style}{mark}{style:#} {:<58} {DIM}{}{DIM:#}", fit(left, 58), fit(right, 37)));
        self.count(left, held);
    }

    /// Something that must hold.
    pub(crate) fn check(&mut self, what: &str, held: bool) {
        let (mark, style) = if held { ('✓', GOOD) } else { ('✗', BAD) };
        self.line(&format!("  {style}{mark} {style:#}{what}"));
        self.count(what, held);
    }

    /// The last line, and whether everything held.
    pub(crate) fn end(&mut self) -> bool {
        let Self { held, failed, .. } = self;
        let (held, lost) = (*held, failed.clone());
        self.line("");
        if lost.is_empty() {
            self.line(&format!("  {GOOD}all {held} checks of this tour hold{GOOD:#}"));
        } else {
            self.line(&format!("  {BAD}{} of {} checks failed:{BAD:#}", lost.len(), held + lost.len()));
            for what in &lost {
                self.line(&format!("    {BAD}✗{BAD:#} {what}"));
            }
        }
        lost.is_empty()
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, text: &str) {
        // A closed pipe ends the show, not the checks.
        drop(writeln!(self.out, "{text}"));
    }

    fn count(&mut self, what: &str, held: bool) {
        if held { self.held += 1 } else { self.failed.push(what.to_owned()) }
    }
}

/// Breaks text at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let long = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() > width);
        if long {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Cuts text that is too long, and shows that it was cut.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::super::bundle::Row;
    use super::*;

    /// What a screen shows.
    #[derive(Clone, Default)]
    struct Paper(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_wider_than_a_hundred_columns() {
        let paper = Paper::default();
        let mut screen = Screen::new(Box::new(paper.clone()));
        let long = "long words and more of them ".repeat(20);
        let row =
            Row { reference: long.clone(), summary: long.clone(), labels: long.clone(), details: vec![long.clone()] };
        screen.stop("A title");
        screen.say(&long);
        screen.answer(&long);
        screen.quote(&long);
        screen.request("GET", "/Condition?patient=amara-osei", "recovery-path");
        screen.row(&long, &long, true);
        screen.diff(&Diff { rows: vec![(Change::Gone, row.clone()), (Change::Altered, row)] });
        let shown = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        let shown = anstream::adapter::strip_str(&shown).to_string();
        let widest = shown.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= WIDTH, "{widest}");
    }

    #[test]
    fn a_failed_check_is_told_at_the_end() {
        let mut screen = Screen::new(Box::new(std::io::sink()));
        screen.check("one", true);
        assert!(screen.end());
        screen.row("two", "", false);
        assert!(!screen.end());
    }

    #[test]
    fn text_keeps_within_its_width() {
        let text = "one two three four five six seven eight nine ten";
        assert!(wrap(text, 12).iter().all(|line| line.len() <= 12));
        assert_eq!(wrap(text, 12).join(" "), text);
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcd", 4), "abcd");
    }
}
