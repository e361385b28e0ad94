//! The small values of a configuration: counts, addresses, paths, digests, secrets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::config::node::Value;
use crate::config::problem::nearest;
use crate::config::read::{At, Setting};
use crate::config::shape::{Form, Shape};

pub(crate) fn unknown_word<T>(at: &At<'_>, known: &[&str]) -> Option<T> {
    let word = at.written();
    let fix = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Known: {}", known.join(", ")),
        None => format!("write one of: {}", known.join(", ")),
    };
    at.refuse(format!("unknown value `{word}`"), fix)
}

pub(crate) const fn text(what: &'static str, pattern: Option<&'static str>, example: &'static str) -> Shape {
    Shape::Text(Form { what, pattern, example })
}

impl<T: Setting> Setting for Option<T> {
    fn read(at: &At<'_>) -> Option<Self> {
        T::read(at).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn shape() -> Shape {
        T::shape()
    }

    fn shown(&self) -> Json {
        self.as_ref().map_or(Json::Null, Setting::shown)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(at: &At<'_>) -> Option<Self> {
        // Every item is read, so that every mistake is told.
        let items: Vec<Option<T>> = at.items()?.iter().map(T::read).collect();
        items.into_iter().collect()
    }

    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn shown(&self) -> Json {
        self.iter().map(Setting::shown).collect()
    }
}

impl Setting for bool {
    fn read(at: &At<'_>) -> Option<Self> {
        match at.value() {
            Value::Bool(value) => Some(*value),
            Value::Null | Value::Integer(_) | Value::Float | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                at.expected("true or false", "write `true` or `false`")
            }
        }
    }

    fn shape() -> Shape {
        Shape::Bool
    }

    fn shown(&self) -> Json {
        json!(self)
    }
}

impl Setting for String {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        if text.trim().is_empty() {
            return at.refuse("this is empty", "write a value, or remove the key");
        }
        Some(text)
    }

    fn shape() -> Shape {
        text("text", None, "text")
    }

    fn shown(&self) -> Json {
        json!(self)
    }
}

/// A count of at least one. No number means "without limit".
impl Setting for NonZeroU32 {
    fn read(at: &At<'_>) -> Option<Self> {
        let Value::Integer(number) = at.value() else {
            return at.expected("a whole number", "write a number from 1");
        };
        match u32::try_from(*number).ok().and_then(Self::new) {
            Some(count) => Some(count),
            None => at.refuse(
                format!("{number} is out of range"),
                "write a number from 1 to 4294967295; no number means without limit",
            ),
        }
    }

    fn shape() -> Shape {
        Shape::Integer { min: 1, max: u32::MAX.into() }
    }

    fn shown(&self) -> Json {
        json!(self.get())
    }
}

impl Setting for SocketAddr {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => at.refuse(
                format!("`{}` is no address with a port", at.written()),
                "write an IP address and a port, as `0.0.0.0:8443` or `[::]:8443`",
            ),
        }
    }

    fn shape() -> Shape {
        text("an IP address and a port", None, "0.0.0.0:8443")
    }

    fn shown(&self) -> Json {
        json!(self.to_string())
    }
}

/// A range of addresses, `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Is the address in this range? A v4 address written as v6 (`::ffff:a.b.c.d`) counts as v4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(base) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(base) & mask == u128::from(address) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Is it a range of IPv4?
    pub const fn is_v4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// How many leading bits are fixed.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= bits))?;
        Some(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Setting for Network {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        match Self::parse(&text) {
            Some(network) => Some(network),
            None => {
                at.refuse(format!("`{}` is no address range", at.written()), "write `10.1.0.0/16`, or one IP address")
            }
        }
    }

    fn shape() -> Shape {
        text("an IP address or a range of them", None, "10.1.0.0/16")
    }

    fn shown(&self) -> Json {
        json!(self.to_string())
    }
}

/// Declares a path, made absolute from where the configuration stands.
macro_rules! path {
    ($(#[doc = $doc:literal])+ $name:ident, $form:ident, $what:literal, $example:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub PathBuf);

        impl AsRef<Path> for $name {
            fn as_ref(&self) -> &Path {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = Path;

            fn deref(&self) -> &Path {
                &self.0
            }
        }

        pub(crate) const $form: Form = Form { what: $what, pattern: None, example: $example };

        impl Setting for $name {
            fn read(at: &At<'_>) -> Option<Self> {
                at.file_path().map(Self)
            }

            fn shape() -> Shape {
                Shape::Text($form)
            }

            fn shown(&self) -> Json {
                json!(self.0.display().to_string())
            }
        }
    };
}

path! {
    /// A file or directory that the configuration is read from: when it changes, the gateway reads it again.
    FilePath, FILE_PATH, "the path of a file; relative ones start at the directory of this one", "tls/server.pem"
}

path! {
    /// A place that is written to, connected to, or only named.
    Place, PLACE, "a path; relative ones start at the directory of this file", "/var/lib/fhirwall/audit"
}

/// Text that never prints: comes from `${NAME}` alone, never from the file itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Search for this word to see where secrets go.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Setting for Secret {
    fn read(at: &At<'_>) -> Option<Self> {
        if !at.is_from_environment() {
            return at.refuse(
                "a secret stands in the file",
                "write `${NAME}` and set NAME in the environment, or use the `_file` form of this key",
            );
        }
        at.text().map(Self)
    }

    fn shape() -> Shape {
        text("a secret, from the environment only", Some(r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"), "${NAME}")
    }

    fn shown(&self) -> Json {
        json!("(secret)")
    }
}

/// A SHA-256 digest, in hexadecimal (colons allowed) or base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    fn parse(text: &str) -> Option<Self> {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let hex: String = text.chars().filter(|c| *c != ':').collect();
        let bytes = if hex.len() == 64 {
            let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            hex.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>()?
        } else {
            STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?
        };
        bytes.try_into().ok().map(Self)
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// The digest in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Setting for Sha256 {
    fn read(at: &At<'_>) -> Option<Self> {
        let text = at.text()?;
        match Self::parse(&text) {
            Some(digest) => Some(digest),
            None => at.refuse("this is no SHA-256 digest", "write 64 hexadecimal digits, or its base64"),
        }
    }

    fn shape() -> Shape {
        text(
            "a SHA-256 digest, in hexadecimal or base64",
            None,
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        )
    }

    fn shown(&self) -> Json {
        json!(self.hex())
    }
}
