//! `name=value&…` decoded once (R4 http.html, RFC 3986 2.1, WHATWG form encoding). What has two decodings is refused.

use crate::interaction::ParseError;

/// More than this many parameters is no search.
const MAX_PARAMETERS: usize = 128;

/// A decoded pair.
pub(super) type Pair = (String, String);

/// Decodes a query or form. An absent or empty text has no pairs.
pub(super) fn pairs(text: Option<&str>) -> Result<Vec<Pair>, ParseError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let mut found = Vec::with_capacity(8);
    for pair in text.split('&') {
        if found.len() == MAX_PARAMETERS {
            return Err(ParseError::TooManyParameters);
        }
        let (name, value) = pair.split_once('=').ok_or(ParseError::MalformedQuery)?;
        let (name, value) = (decoded(name)?, decoded(value)?);
        if name.is_empty() {
            return Err(ParseError::MalformedQuery);
        }
        if value.trim().is_empty() {
            return Err(ParseError::EmptyValue);
        }
        found.push((name, value));
    }
    Ok(found)
}

/// `+` is a space in both places: servers read it so, and the canonical text that is sent leaves no doubt.
fn decoded(text: &str) -> Result<String, ParseError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(ParseError::MalformedQuery),
            },
            b'+' => b' ',
            // RFC 3986 leaves no others raw, and none has two readings.
            b'!'..=b'~' => byte,
            _ => return Err(ParseError::MalformedQuery),
        };
        if byte.is_ascii_control() {
            return Err(ParseError::MalformedQuery);
        }
        out.push(byte);
    }
    String::from_utf8(out).map_err(|_| ParseError::MalformedQuery)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// One text for URL and form. A parameter that stands in both must say the same in both (product.md 4).
pub(super) fn merged(url: Option<&str>, form: Option<&str>) -> Result<Vec<Pair>, ParseError> {
    let mut all = pairs(url)?;
    let form = pairs(form)?;
    let values = |pairs: &[Pair], name: &str| {
        let mut values: Vec<String> = pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect();
        values.sort_unstable();
        values
    };
    let mut fresh = Vec::with_capacity(form.len());
    for (name, value) in &form {
        // `patient=A` in one and `patient:Patient=B` in the other is the same parameter twice.
        let stem = stem(name);
        let twins: Vec<&Pair> = all.iter().filter(|(n, _)| self::stem(n) == stem && !repeatable(stem)).collect();
        if twins.is_empty() {
            fresh.push((name.clone(), value.clone()));
        } else if twins.iter().any(|(n, _)| n != name) || values(&all, name) != values(&form, name) {
            return Err(ParseError::Contradictory);
        }
    }
    all.append(&mut fresh);
    if all.len() > MAX_PARAMETERS { Err(ParseError::TooManyParameters) } else { Ok(all) }
}

/// Lists of things to add do not contradict each other.
fn repeatable(stem: &str) -> bool {
    matches!(stem, "_include" | "_revinclude" | "_has")
}

fn stem(name: &str) -> &str {
    name.split([':', '.']).next().unwrap_or(name)
}

/// Appends `name=value`, percent-encoded so that only one decoding exists.
pub(super) fn encode(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    encode_text(out, name);
    out.push('=');
    encode_text(out, value);
}

fn encode_text(out: &mut String, text: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b',' | b'*') {
            out.push(char::from(byte));
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or('0');
            out.push('%');
            out.push(digit(byte >> 4));
            out.push(digit(byte & 15));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_one_decoding_or_none() {
        for wrong in [
            "a", "=a", "a=%", "a=%4", "a=%zz", "a=%ff", "a=%00", "a=%0d%0a", "a=é", "a=b c", "&a=b", "a=b&", "a=b&&c=d",
        ] {
            assert_eq!(pairs(Some(wrong)), Err(ParseError::MalformedQuery), "{wrong}");
        }
        for empty in ["a=", "a=%20", "a=+"] {
            assert_eq!(pairs(Some(empty)), Err(ParseError::EmptyValue), "{empty}");
        }
        let right = pairs(Some("%5Fid=a+b%2Cc&x=a=b")).unwrap();
        assert_eq!(right, [("_id".into(), "a b,c".into()), ("x".into(), "a=b".into())]);
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let mut text = String::new();
        encode(&mut text, "a:b", "x|y&z=é +%;\\,");
        assert_eq!(text, "a:b=x%7Cy%26z%3D%C3%A9%20%2B%25%3B%5C,");
        assert_eq!(pairs(Some(&text)).unwrap(), [("a:b".into(), "x|y&z=é +%;\\,".into())]);
    }

    #[test]
    fn url_and_form_may_not_differ() {
        for (url, form) in
            [("patient=A", "patient=B"), ("patient=A", "patient:Patient=A"), ("date=ge1", "date=ge1&date=le2")]
        {
            assert_eq!(merged(Some(url), Some(form)), Err(ParseError::Contradictory), "{url} {form}");
        }
        assert_eq!(merged(Some("patient=A"), Some("patient=A&code=x")).unwrap().len(), 2);
        assert_eq!(merged(None, Some("patient=A")).unwrap().len(), 1);
    }
}
