//! A Bundle that the engine wrote, taken apart into its members and entries without being read once more.
//!
//! It is no reader of foreign text. What [`crate::engine`] writes was read strictly to its last byte: here only the end of
//! each part is looked for, and a resource that stands as it stood is passed over in one comparison. Of another text the
//! parts may be wrong, or it is refused; they always lie within it.

use core::ops::Range;
use std::borrow::Cow;

use memchr::memchr2;

use crate::json::Ambiguous;

/// The parts of a Bundle, by where they stand in its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'t> {
    /// Name and value of each member but `entry`.
    pub members: Vec<(Cow<'t, str>, Range<usize>)>,
    pub entries: Vec<EntryPart>,
}

/// An entry, and the resource in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPart {
    pub whole: Range<usize>,
    pub resource: Option<Range<usize>>,
}

/// Takes a Bundle apart. `known`: for each entry that holds a resource, in order, the text that this resource has if it
/// was not changed. A wrong one costs time alone.
///
/// # Errors
/// Refuses what is no object, or whose `entry` is no array of objects.
pub fn parts<'t>(bundle: &'t [u8], known: impl IntoIterator<Item = &'t [u8]>) -> Result<Parts<'t>, Ambiguous> {
    let mut reader = Reader { text: bundle, at: 0 };
    let mut known = known.into_iter();
    let mut parts = Parts::default();
    let read = reader.members(|reader, name| {
        if name == "entry" {
            return reader.items(|reader| {
                let entry = reader.entry(&mut known)?;
                parts.entries.push(entry);
                Some(())
            });
        }
        let value = reader.value()?;
        parts.members.push((name, value));
        Some(())
    });
    let at_end = read.is_some() && reader.peek().is_none();
    if at_end { Ok(parts) } else { Err(Ambiguous::new()) }
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    fn entry(&mut self, known: &mut impl Iterator<Item = &'t [u8]>) -> Option<EntryPart> {
        self.peek()?;
        let start = self.at;
        let mut resource = None;
        self.members(|reader, name| {
            let value = if name == "resource" { reader.resource(known.next())? } else { reader.value()? };
            if name == "resource" {
                resource = Some(value);
            }
            Some(())
        })?;
        Some(EntryPart { whole: start..self.at, resource })
    }

    /// An object ends where it ends, whatever follows: if it begins like a known one, it is that one.
    fn resource(&mut self, known: Option<&[u8]>) -> Option<Range<usize>> {
        self.peek()?;
        let start = self.at;
        match known {
            Some(known) if known.starts_with(b"{") && self.text.get(start..)?.starts_with(known) => {
                self.at = start.checked_add(known.len())?;
                Some(start..self.at)
            }
            Some(_) | None => self.value(),
        }
    }

    /// Goes through an object; `each` reads the value of a member.
    fn members(&mut self, mut each: impl FnMut(&mut Self, Cow<'t, str>) -> Option<()>) -> Option<()> {
        self.eat(b'{')?;
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.name()?;
            self.eat(b':')?;
            each(self, name)?;
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
        }
    }

    /// Goes through an array; `each` reads an item.
    fn items(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            each(self)?;
            if self.eat(b',').is_none() {
                return self.eat(b']');
            }
        }
    }

    fn name(&mut self) -> Option<Cow<'t, str>> {
        self.peek()?;
        let start = self.at;
        let escaped = self.string()?;
        let quoted = self.text.get(start..self.at)?;
        if escaped {
            return serde_json::from_slice(quoted).ok().map(Cow::Owned);
        }
        let plain = quoted.get(1..quoted.len().checked_sub(1)?)?;
        core::str::from_utf8(plain).ok().map(Cow::Borrowed)
    }

    /// Passes over a string. Does it hold an escape?
    fn string(&mut self) -> Option<bool> {
        self.eat(b'"')?;
        let mut escaped = false;
        loop {
            let hit = self.at.checked_add(memchr2(b'"', b'\\', self.text.get(self.at..)?)?)?;
            if self.text.get(hit) == Some(&b'"') {
                self.at = hit.checked_add(1)?;
                return Some(escaped);
            }
            escaped = true;
            self.at = hit.checked_add(2)?;
        }
    }

    /// Passes over a value.
    fn value(&mut self) -> Option<Range<usize>> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => drop(self.string()?),
            b'{' | b'[' => self.container()?,
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let rest = self.text.get(start..)?;
                self.at = start.checked_add(rest.iter().position(ends).unwrap_or(rest.len()))?;
            }
        }
        (start < self.at).then_some(start..self.at)
    }

    fn container(&mut self) -> Option<()> {
        let mut open = 0usize;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open = open.checked_add(1)?,
                b'}' | b']' => open = open.checked_sub(1)?,
                _ => {}
            }
            self.at = self.at.checked_add(1)?;
            if open == 0 {
                return Some(());
            }
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at = self.at.checked_add(1)?;
        Some(())
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at = self.at.checked_add(1)?,
                byte => return Some(*byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::json;

    type Members = Vec<(String, String)>;
    type Entries = Vec<(String, Option<String>)>;

    /// The same by the strict reader: names and texts.
    fn slowly(bundle: &[u8]) -> Option<(Members, Entries)> {
        let (mut members, mut entries) = (Vec::new(), Vec::new());
        for (name, text) in json::members(bundle).ok()? {
            if name != "entry" {
                members.push((name, text.get().to_owned()));
                continue;
            }
            for entry in json::items(text.get().as_bytes()).ok()? {
                let inner = json::members(entry.get().as_bytes()).ok()?;
                let resource = inner.into_iter().find(|(name, _)| name == "resource");
                entries.push((entry.get().to_owned(), resource.map(|(_, text)| text.get().to_owned())));
            }
        }
        Some((members, entries))
    }

    fn agree(bundle: &[u8], known: &[&[u8]]) {
        let text = |range: &Range<usize>| String::from_utf8(bundle[range.clone()].to_vec()).unwrap();
        let parts = parts(bundle, known.iter().copied()).unwrap();
        let members = parts.members.iter().map(|(name, value)| (name.clone().into_owned(), text(value))).collect();
        let entries =
            parts.entries.iter().map(|entry| (text(&entry.whole), entry.resource.as_ref().map(text))).collect();
        assert_eq!(Some((members, entries)), slowly(bundle));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            r#"[a-z"\\\[\]{},: \u{e9}]{0,12}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(r#"[a-z"\\é]{1,4}"#, inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parts_are_those_that_the_strict_reader_finds(
            above in values(), below in values(),
            entries in prop::collection::vec((prop::option::of(values()), values(), any::<bool>()), 0..6),
            pretty in any::<bool>(),
        ) {
            let resources: Vec<Value> = entries.iter().filter_map(|(resource, ..)| resource.clone()).collect();
            let known: Vec<String> = resources
                .iter()
                .zip(entries.iter().filter(|(resource, ..)| resource.is_some()))
                .map(|(resource, (_, other, right))| if *right { resource } else { other }.to_string())
                .collect();
            let entries: Vec<Value> = entries
                .into_iter()
                .map(|(resource, other, _)| match resource {
                    Some(resource) => json!({"fullUrl": other, "resource": resource, "search": {"mode": "match"}}),
                    None => json!({"request": other}),
                })
                .collect();
            let bundle = json!({"resourceType": "Bundle", "above": above, "entry": entries, "below": below});
            let text = if pretty { serde_json::to_string_pretty(&bundle) } else { serde_json::to_string(&bundle) };
            let known: Vec<&[u8]> = known.iter().map(String::as_bytes).collect();
            agree(text.unwrap().as_bytes(), &known);
        }

        #[test]
        fn whatever_the_text_is_parts_lie_within_it(text in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..64) {
            let mut bundle = br#"{"entry":[{"resource":{"a":"x"}}],"b":1}"#.to_vec();
            bundle.splice(at.min(bundle.len())..at.min(bundle.len()), text);
            if let Ok(parts) = parts(&bundle, [br#"{"a":"x"}"#.as_slice()]) {
                let all = parts.members.iter().map(|(_, value)| value).chain(parts.entries.iter().map(|one| &one.whole));
                prop_assert!(all.into_iter().all(|range| bundle.get(range.clone()).is_some()));
            }
        }
    }

    #[test]
    fn names_are_compared_as_what_they_spell() {
        agree(br#" { "entr\u0079" : [ {"r\u0065source":{"a":[1,2]} , "x":"]"} ] , "a\"b":"\\" } "#, &[]);
        agree(br#"{"entry":[]}"#, &[]);
        agree(b"{}", &[]);
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        for wrong in ["", "[]", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1} x"#, r#"{"entry":{}}"#, r#"{"entry":[1]}"#] {
            assert!(parts(wrong.as_bytes(), []).is_err(), "{wrong}");
        }
    }
}
