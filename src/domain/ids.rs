//! Identities as newtypes. Ids that a browser reads are JSON strings: 19-digit numbers do not
//! survive JavaScript's doubles.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest accepted id text, in characters (serials of real devices reach 25, database columns of
/// the systems around us 255).
pub const ID_CHARS_MAX: usize = 255;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("the id is empty")]
    Empty,
    #[error("the id has more than {ID_CHARS_MAX} characters")]
    TooLong,
    #[error("the id contains a control character")]
    ControlCharacter,
    #[error("the id is not of the form that this server hands out")]
    Malformed,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes trimmed text of 1 to 255 characters without control characters.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let text = text.trim();
                if text.is_empty() {
                    return Err(IdError::Empty);
                }
                if text.len() > ID_CHARS_MAX && text.chars().count() > ID_CHARS_MAX {
                    return Err(IdError::TooLong);
                }
                if text.chars().any(char::is_control) {
                    return Err(IdError::ControlCharacter);
                }
                Ok(Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// Serial number of a watch, as the watch says it. Case is kept and significant.
    DeviceSn
);
text_id!(
    /// A tenant. The default customer, to whom unbound devices belong, is `"0"`.
    CustomerId
);
text_id!(
    /// A node of a customer's organisation tree.
    OrgId
);
text_id!(
    /// The person who wears a watch.
    PersonId
);
text_id!(
    /// An alert rule. Seeded rules have readable ids (`sos`), others are made by the server.
    RuleId
);

impl CustomerId {
    /// Owner of everything that no binding gives to somebody else.
    pub fn default_customer() -> Self {
        Self(Arc::from("0"))
    }
}

/// Event id: UUIDv8, 48 bits of time and a cryptographic hash of the identity
/// (see [`crate::domain::identity`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// Milliseconds in the leading 48 bits: the wall clock of the event read as UTC, or the time
    /// of arrival where the event has no usable time.
    pub fn time_ms(&self) -> i64 {
        let mut bytes = [0u8; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        i64::from_be_bytes(bytes)
    }

    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Malformed)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0), f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        uuid::Uuid::parse_str(text).map(|uuid| Self(uuid.into_bytes())).map_err(|_| IdError::Malformed)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Alert id: 63-bit hash of (cause, rule), so that it is positive in a signed column. Always a
/// string in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlertId(pub i64);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AlertId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Self(number)),
            _ => Err(IdError::Malformed),
        }
    }
}

impl Serialize for AlertId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AlertId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who wore a watch when something happened: a row of `device_binding`, 0 where nobody did.
/// A watch that is handed to somebody else gets a new one, so open alerts do not move along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BindingId(pub i64);

impl BindingId {
    pub const UNBOUND: BindingId = BindingId(0);
}

/// Position of an alert change in the log: gap-free from 1 within an epoch. 0 means "before the
/// first". A JSON number: it cannot reach 2^53 in any lifetime of a server.
pub type Offset = i64;
