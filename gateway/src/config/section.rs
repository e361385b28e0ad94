//! One declaration makes a section's type, its reader, its description and its defaults, so that they cannot differ.

/// Declares a mapping of the configuration. Every key has a doc comment; `= value` is its default; a key without one
/// is required unless its type has a meaning for absence. `check` names a function that notes what is wrong across keys.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $name:ident {
            $( $(#[doc = $key_doc:literal])+ $field:ident $(as $key:literal)? : $type:ty $(= $default:expr)? ),+ $(,)?
        }
        $(check $check:path;)?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $key_doc])+ $vis $field: $type ),+
        }

        impl $crate::config::read::Setting for $name {
            fn read(at: &$crate::config::read::At<'_>) -> Option<Self> {
                at.mapping(&[$( $crate::config::section::key!($field $(, $key)?) ),+])?;
                $( let $field: Option<$type> = at.field(
                    $crate::config::section::key!($field $(, $key)?),
                    || $crate::config::section::absent!($type $(, $default)?),
                ); )+
                let read = Self { $( $field: $field? ),+ };
                $( $check(&read, at); )?
                Some(read)
            }

            fn absent() -> Option<Self> {
                Some(Self { $( $field: $crate::config::section::absent!($type $(, $default)?)? ),+ })
            }

            fn shape() -> $crate::config::shape::Shape {
                $crate::config::shape::Shape::Section($crate::config::shape::Section {
                    name: stringify!($name),
                    doc: concat!($($doc, "\n"),+).trim().replace("\n ", "\n"),
                    keys: vec![$({
                        let absent: Option<$type> = $crate::config::section::absent!($type $(, $default)?);
                        $crate::config::shape::Key {
                            name: $crate::config::section::key!($field $(, $key)?),
                            doc: concat!($($key_doc, "\n"),+).trim().replace("\n ", "\n"),
                            required: absent.is_none(),
                            default: absent
                                .map(|value| $crate::config::read::Setting::shown(&value))
                                .filter(|value| !value.is_null() && $crate::config::section::says_more::<$type>(value)),
                            shape: <$type as $crate::config::read::Setting>::shape(),
                        }
                    }),+],
                })
            }

            fn shown(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $( map.insert(
                    $crate::config::section::key!($field $(, $key)?).to_owned(),
                    $crate::config::read::Setting::shown(&self.$field),
                ); )+
                map.retain(|_, value| !value.is_null());
                serde_json::Value::Object(map)
            }
        }
    };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident, $key:literal) => {
        $key
    };
}

macro_rules! absent {
    ($type:ty) => {
        <$type as $crate::config::read::Setting>::absent()
    };
    ($type:ty, $default:expr) => {
        Some($default)
    };
}

/// Declares a choice between words.
macro_rules! words {
    (
        $(#[doc = $doc:literal])+
        $vis:vis enum $name:ident { $( $(#[doc = $word_doc:literal])+ $variant:ident = $word:literal ),+ $(,)? }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $( $(#[doc = $word_doc])+ $variant ),+ }
        $crate::config::section::words_of!($name { $( $variant = $word, concat!($($word_doc, "\n"),+) );+ });
    };
}

/// Declares the words for an enum that another module owns.
macro_rules! words_of {
    ($name:ident { $( $variant:ident = $word:literal, $doc:expr );+ $(;)? }) => {
        impl $crate::config::read::Setting for $name {
            fn read(at: &$crate::config::read::At<'_>) -> Option<Self> {
                const KNOWN: &[&str] = &[$($word),+];
                let text = at.text()?;
                match text.as_str() {
                    $( $word => Some(Self::$variant), )+
                    _ => $crate::config::value::unknown_word(at, KNOWN),
                }
            }

            fn shape() -> $crate::config::shape::Shape {
                $crate::config::shape::Shape::Words(vec![$( ($word, $doc.trim()) ),+])
            }

            fn shown(&self) -> serde_json::Value {
                match self { $( Self::$variant => serde_json::Value::from($word) ),+ }
            }
        }
    };
}

/// Does a default say more than the keys below it say themselves?
pub(crate) fn says_more<T: crate::config::read::Setting>(default: &serde_json::Value) -> bool {
    !default.is_object() || T::absent().is_none_or(|own| own.shown() != *default)
}

pub(crate) use {absent, key, section, words, words_of};
