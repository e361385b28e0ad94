//! The grammar of RFC 8259, one byte at a time and never twice.
//!
//! Refused beyond the RFC: duplicate member names and lone surrogates (two readers would understand two documents),
//! nesting beyond the bound. Numbers are checked and never converted.

use core::num::NonZeroU32;
use std::borrow::Cow;

use super::ScanError;
use super::skip::Bytes;

/// A span of the document, as byte offsets. Documents of 2 GiB and more are refused before scanning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: offset(start), end: offset(end) }
    }
}

/// `scan` refuses longer documents, so nothing is cut off.
#[inline]
pub(super) const fn offset(at: usize) -> u32 {
    at as u32
}

#[inline(always)]
pub(super) const fn index(at: u32) -> usize {
    at as usize
}

/// The inside of a string, without its quotes: eight bytes, so that it travels in a register, absent or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Twice the place of the quote before it, and one. Documents are shorter than 2 GiB.
    quote: NonZeroU32,
    /// Its end; the highest bit says that it holds at least one escape sequence.
    end: u32,
}

const ESCAPED: u32 = 1 << 31;

impl Text {
    /// The string whose opening quote stands there, up to its closing quote.
    #[inline(always)]
    pub(super) fn between(quote: usize, end: usize, escaped: bool) -> Self {
        let quote = NonZeroU32::MIN | (offset(quote) << 1);
        Self { quote, end: offset(end) | if escaped { ESCAPED } else { 0 } }
    }

    #[inline(always)]
    pub(super) const fn span(self) -> Span {
        Span { start: (self.quote.get() >> 1).wrapping_add(1), end: self.end & !ESCAPED }
    }

    /// How many bytes are written.
    pub(super) const fn len(self) -> usize {
        let span = self.span();
        index(span.end.saturating_sub(span.start))
    }

    #[inline]
    pub(super) const fn escaped(self) -> bool {
        self.end & ESCAPED != 0
    }
}

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    /// Number, `true` or `false`.
    Scalar,
    Null,
}

/// A position in a text that is known to be UTF-8.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: Bytes<'a>,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, bytes: Bytes::of(text.as_bytes()), at: 0 }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at)
    }

    #[inline]
    pub(super) fn skip_whitespace(&mut self) {
        self.at = behind_whitespace(self.bytes, self.at);
    }

    /// The kind of the value that starts here, by its first byte.
    #[inline]
    pub(super) fn kind(&self) -> Result<Kind, ScanError> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9' | b't' | b'f') => Ok(Kind::Scalar),
            Some(_) | None => Err(ScanError::Syntax),
        }
    }

    /// Reads a string that starts here.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text, ScanError> {
        let (text, end) = string(self.bytes, self.at)?;
        self.at = end;
        Ok(text)
    }

    /// Skips a number, `true`, `false` or `null`.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(_) | None => self.number(),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), ScanError> {
        let end = self.at + word.len();
        if self.bytes.range(self.at..end) == Some(word) {
            self.at = end;
            return Ok(());
        }
        Err(ScanError::Syntax)
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let (bytes, mut at) = (self.bytes, self.at);
        if bytes.get(at) == Some(b'-') {
            at = behind(at, 1);
        }
        at = match bytes.get(at) {
            Some(b'0') => behind(at, 1),
            Some(b'1'..=b'9') => digits(bytes, at)?,
            Some(_) | None => return Err(ScanError::Syntax),
        };
        if bytes.get(at) == Some(b'.') {
            at = digits(bytes, behind(at, 1))?;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at = behind(at, 1);
            if let Some(b'+' | b'-') = bytes.get(at) {
                at = behind(at, 1);
            }
            at = digits(bytes, at)?;
        }
        self.at = at;
        Ok(())
    }

    /// The text of a span; empty for a span that is none.
    #[inline]
    pub(super) fn slice(&self, span: Span) -> &'a str {
        slice(self.text, span)
    }

    pub(super) fn decoded(&self, text: Text) -> Cow<'a, str> {
        decoded(self.text, text)
    }
}

/// Where the digits end that start here, at least one.
#[inline(always)]
fn digits(bytes: Bytes<'_>, start: usize) -> Result<usize, ScanError> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at = behind(at, 1);
    }
    if at == start { Err(ScanError::Syntax) } else { Ok(at) }
}

/// The position so many bytes further on. Positions are at most a few beyond the end of a document of less than 2 GiB:
/// nothing wraps, and nothing has to be checked in the loop that all bytes go through.
#[inline(always)]
pub(super) const fn behind(at: usize, bytes: usize) -> usize {
    at.wrapping_add(bytes)
}

/// The first position from here on that holds no whitespace. Compact documents have none: one comparison, and out.
#[inline(always)]
pub(super) fn behind_whitespace(bytes: Bytes<'_>, at: usize) -> usize {
    match bytes.get(at) {
        Some(byte) if byte > b' ' => at,
        Some(_) | None => behind_some_whitespace(bytes, at),
    }
}

#[inline(never)]
fn behind_some_whitespace(bytes: Bytes<'_>, mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Reads the string that starts here, and answers where it ends. Inlined everywhere, and of positions in registers: handed
/// over in memory, the two halves of the span were written apart and read as one, and that wait was a third of the scan.
#[inline(always)]
pub(super) fn string(bytes: Bytes<'_>, quote: usize) -> Result<(Text, usize), ScanError> {
    if bytes.get(quote) == Some(b'"') { string_behind(bytes, quote) } else { Err(ScanError::Syntax) }
}

/// The same, where a quote is known to stand.
#[inline(always)]
pub(super) fn string_behind(bytes: Bytes<'_>, quote: usize) -> Result<(Text, usize), ScanError> {
    let end = bytes.plain_until(behind(quote, 1));
    if bytes.get(end) == Some(b'"') {
        return Ok((Text::between(quote, end, false), behind(end, 1)));
    }
    escaped_string(bytes, quote, end)
}

/// The same, from the first byte on that is not plain.
#[cold]
#[inline(never)]
fn escaped_string(bytes: Bytes<'_>, quote: usize, at: usize) -> Result<(Text, usize), ScanError> {
    let mut at = at;
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok((Text::between(quote, at, true), at + 1)),
            Some(b'\\') => at = escape(bytes, at)?,
            Some(_) | None => return Err(ScanError::Syntax),
        }
        at = bytes.plain_until(at);
    }
}

/// Where the escape sequence ends that starts here.
fn escape(bytes: Bytes<'_>, at: usize) -> Result<usize, ScanError> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match hex4(bytes, at + 2)? {
            0xD800..=0xDBFF => {
                if bytes.range(at + 6..at + 8) != Some(b"\\u") {
                    return Err(ScanError::Encoding);
                }
                match hex4(bytes, at + 8)? {
                    0xDC00..=0xDFFF => Ok(at + 12),
                    _ => Err(ScanError::Encoding),
                }
            }
            0xDC00..=0xDFFF => Err(ScanError::Encoding),
            _ => Ok(at + 6),
        },
        Some(_) | None => Err(ScanError::Syntax),
    }
}

fn hex4(bytes: Bytes<'_>, at: usize) -> Result<u32, ScanError> {
    let digits = bytes.range(at..at + 4).ok_or(ScanError::Syntax)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?)).ok_or(ScanError::Syntax)
}

/// The part of a document; empty for offsets that are not its own.
#[inline]
pub(super) fn slice(document: &str, span: Span) -> &str {
    document.get(index(span.start)..index(span.end)).unwrap_or_default()
}

/// The meaning of a string: itself, or with its escapes resolved.
#[inline]
pub(super) fn decoded(document: &str, text: Text) -> Cow<'_, str> {
    let raw = slice(document, text.span());
    if text.escaped() { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) }
}

/// Resolves the escapes of a string that the scanner has accepted.
#[cold]
pub(super) fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    let mut high = None;
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let unit = chars.by_ref().take(4).filter_map(|d| d.to_digit(16)).fold(0, |unit, d| unit * 16 + d);
                match (high.take(), unit) {
                    (Some(high), low) => {
                        let scalar = 0x10000_u32 + ((high & 0x3FF) << 10) + (low & 0x3FF);
                        out.extend(char::from_u32(scalar));
                    }
                    (None, 0xD800..=0xDBFF) => high = Some(unit),
                    (None, unit) => out.extend(char::from_u32(unit)),
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Writes a text as the inside of a JSON string.
pub(super) fn escape_into(out: &mut String, text: &str) {
    let mut rest = text;
    // What needs no escape is copied in one piece.
    while let Some((plain, from)) = rest.bytes().position(must_be_escaped).and_then(|at| rest.split_at_checked(at)) {
        out.push_str(plain);
        let mut from = from.chars();
        match from.next().unwrap_or_default() {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => {
                out.push_str("\\u00");
                out.push(char::from_digit(u32::from(c) >> 4, 16).unwrap_or('0'));
                out.push(char::from_digit(u32::from(c) & 15, 16).unwrap_or('0'));
            }
        }
        rest = from.as_str();
    }
    out.push_str(rest);
}

/// RFC 8259, section 7. All of them are ASCII, so none is a part of another character.
const fn must_be_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_resolve_to_what_they_mean_and_back() {
        assert_eq!(unescape(r#"\u006deta \"\\\/ \ud83d\ude00 \n"#), "meta \"\\/ \u{1F600} \n");
        let mut out = String::new();
        escape_into(&mut out, "a\"b\\c\n\u{1}é");
        assert_eq!(out, r#"a\"b\\c\n\u0001é"#);
        assert_eq!(unescape(&out), "a\"b\\c\n\u{1}é");
    }
}
