//! Values of parameters by type (R4 search.html#ptypes): escapes, alternatives, prefixes.

use crate::interaction::ParseError;
use crate::search::Kind;

/// Splits at `,` unless escaped. Escapes stay: what follows splits further.
pub(super) fn alternatives(text: &str) -> impl Iterator<Item = &str> {
    split(text, ',')
}

/// Splits at a separator that no backslash escapes.
pub(super) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let current = rest?;
        let mut escaped = false;
        for (at, c) in current.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == separator {
                rest = current.get(at.saturating_add(separator.len_utf8())..);
                return current.get(..at);
            }
        }
        rest = None;
        Some(current)
    })
}

/// Undoes `\,` `\|` `\$` `\\`; any other escape is no escape in R4.
pub(super) fn unescaped(text: &str) -> Result<String, ParseError> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match letters.next() {
            Some(c @ (',' | '|' | '$' | '\\')) => out.push(c),
            _ => return Err(ParseError::MalformedValue),
        }
    }
    Ok(out)
}

/// The comparison that a number, date or quantity asks for (R4 search.html#prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

/// The prefix and what follows it. A value that starts with a letter has one of R4's prefixes or is malformed later.
pub(super) fn prefix(text: &str) -> (Prefix, &str) {
    let named = [
        ("eq", Prefix::Eq),
        ("ne", Prefix::Ne),
        ("gt", Prefix::Gt),
        ("lt", Prefix::Lt),
        ("ge", Prefix::Ge),
        ("le", Prefix::Le),
        ("sa", Prefix::Sa),
        ("eb", Prefix::Eb),
        ("ap", Prefix::Ap),
    ];
    named
        .iter()
        .find_map(|(name, prefix)| text.strip_prefix(name).map(|rest| (*prefix, rest)))
        .unwrap_or((Prefix::Eq, text))
}

/// Does every alternative fit the type? An EHR that skips a value it cannot read widens the answer.
pub(super) fn fits(kind: Kind, text: &str) -> Result<(), ParseError> {
    for one in alternatives(text) {
        let plain = unescaped(one)?;
        let fits = match kind {
            _ if plain.is_empty() => false,
            Kind::Number => is_number(prefix(one).1),
            Kind::Date => is_date(prefix(one).1),
            Kind::Quantity => {
                let mut parts = split(prefix(one).1, '|');
                parts.next().is_some_and(is_number) && matches!(parts.count(), 0 | 2)
            }
            Kind::Token => split(one, '|').count() <= 2 && plain != "|",
            Kind::Composite => split(one, '$').all(|part| !part.is_empty()) && split(one, '$').count() >= 2,
            Kind::String | Kind::Reference | Kind::Uri | Kind::Special => true,
        };
        if !fits {
            return Err(ParseError::MalformedValue);
        }
    }
    Ok(())
}

pub(super) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let legal = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    legal && digits.bytes().next().is_some_and(|b| b.is_ascii_digit()) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `YYYY[-MM[-DD[Thh:mm[:ss[.f]][Z|±hh:mm]]]]` (R4 search.html#date).
pub(super) fn is_date(text: &str) -> bool {
    super::date::Interval::parse(text).is_some()
}
