//! JSON-RPC 1.0 as OVSDB speaks it (RFC 7047 §4), and the rows it carries (§5.1). Decides nothing.
//!
//! Messages follow each other without a delimiter, two in one read or half of one, so the end of each
//! is found by counting brackets; only whole messages are parsed.

use core::{fmt, marker::PhantomData};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Bytes in the longest message that is read.
pub const LONGEST: usize = 4 << 20;
/// Arrays and objects inside each other in the deepest message that is read; OVSDB needs nine.
pub const DEEPEST: usize = 32;
/// Rows of one table, and elements of one column, in one message.
const MOST: usize = 16_384;

/// Bytes that are not a series of JSON-RPC messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misframed {
    /// A message longer than [`LONGEST`].
    TooLong,
    /// A message deeper than [`DEEPEST`].
    TooDeep,
    /// Something else than an object stands where a message begins.
    NotAnObject,
}

impl fmt::Display for Misframed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misframed::TooLong => write!(f, "a message of more than {LONGEST} octets"),
            Misframed::TooDeep => write!(f, "a message of more than {DEEPEST} brackets inside each other"),
            Misframed::NotAnObject => f.write_str("something that is not a JSON object"),
        }
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Where the message that is being read begins.
    start: usize,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// Takes what was read.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there. After an `Err` the stream has no meaning any more.
    pub fn poll_message(&mut self) -> Result<Option<&[u8]>, Misframed> {
        while let Some(&byte) = self.bytes.get(self.scanned) {
            self.scanned += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => self.start = self.scanned,
                b'{' => self.depth += 1,
                _ if self.depth == 0 => return Err(Misframed::NotAnObject),
                b'[' => self.depth += 1,
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let message = self.start..self.scanned;
                        self.start = self.scanned;
                        return if message.len() > LONGEST {
                            Err(Misframed::TooLong)
                        } else {
                            Ok(Some(&self.bytes[message]))
                        };
                    }
                }
                _ => {}
            }
            if self.depth > DEEPEST {
                return Err(Misframed::TooDeep);
            }
        }
        if self.bytes.len() - self.start > LONGEST { Err(Misframed::TooLong) } else { Ok(None) }
    }
}

/// One message, as JSON-RPC 1.0 tells them apart.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants a reply with this id, which is any JSON value.
    Request { id: &'a RawValue, method: String, params: Option<&'a RawValue> },
    /// Wants none.
    Notification { method: String, params: Option<&'a RawValue> },
    /// To a request of ours; the id of one is always a number.
    Reply { id: u64, outcome: Result<&'a RawValue, &'a RawValue> },
}

/// Parses a message. The `Err` says what is wrong with it.
pub fn parse(message: &[u8]) -> Result<Message<'_>, String> {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
        #[serde(default)]
        method: Option<String>,
        #[serde(borrow, default)]
        params: Option<&'a RawValue>,
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    let Envelope { id, method, params, result, error } =
        serde_json::from_slice(message).map_err(|e| e.to_string())?;
    match (method, id) {
        (Some(method), Some(id)) => Ok(Message::Request { id, method, params }),
        (Some(method), None) => Ok(Message::Notification { method, params }),
        (None, Some(id)) => {
            let id = id.get().parse().map_err(|_| "a reply to what was never asked".to_owned())?;
            match (error, result) {
                (Some(error), _) => Ok(Message::Reply { id, outcome: Err(error) }),
                (None, Some(result)) => Ok(Message::Reply { id, outcome: Ok(result) }),
                (None, None) => Err("a reply with neither result nor error".to_owned()),
            }
        }
        (None, None) => Err("a message with neither method nor id".to_owned()),
    }
}

/// An atom (RFC 7047 §5.1 `<atom>`). Reals become their whole part: no column read here has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    Integer(i64),
    Text(String),
    Uuid(String),
}

/// A column's value: "Either an <atom>, representing a set with exactly one element, or a 2-element
/// JSON array that represents a database set value." (§5.1 `<set>`)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column(pub Vec<Atom>);

impl Column {
    /// The first whole number.
    pub fn integer(&self) -> Option<i64> {
        self.0.iter().find_map(|atom| match atom {
            Atom::Integer(number) => Some(*number),
            _ => None,
        })
    }

    /// The first text.
    pub fn text(&self) -> Option<&str> {
        self.0.iter().find_map(|atom| match atom {
            Atom::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Every row this refers to.
    pub fn uuids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|atom| match atom {
            Atom::Uuid(uuid) => Some(uuid.as_str()),
            _ => None,
        })
    }
}

/// What stands inside `["set", […]]`, or alone.
struct Element(Atom);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Element, D::Error> {
        let Column(mut atoms) = Column::deserialize(from)?;
        match atoms.pop() {
            Some(atom) if atoms.is_empty() => Ok(Element(atom)),
            _ => Err(de::Error::custom("a set inside a set")),
        }
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Column, D::Error> {
        struct Value;

        impl<'de> Visitor<'de> for Value {
            type Value = Column;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an OVSDB atom or set")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Column, E> {
                Ok(Column(vec![Atom::Integer(value.into())]))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Column, E> {
                Ok(Column(vec![Atom::Integer(value)]))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Column, E> {
                Ok(Column(vec![Atom::Integer(i64::try_from(value).unwrap_or(i64::MAX))]))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Column, E> {
                Ok(Column(vec![Atom::Integer(value as i64)]))
            }

            fn visit_str<E>(self, value: &str) -> Result<Column, E> {
                Ok(Column(vec![Atom::Text(value.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Column, A::Error> {
                let kind: String = seq.next_element()?.unwrap_or_default();
                let column = match kind.as_str() {
                    "set" => {
                        let Few(elements) = seq.next_element::<Few<Element>>()?.unwrap_or_default();
                        Column(elements.into_iter().map(|Element(atom)| atom).collect())
                    }
                    "uuid" | "named-uuid" => {
                        Column(vec![Atom::Uuid(seq.next_element()?.unwrap_or_default())])
                    }
                    other => return Err(de::Error::custom(format_args!("a value of kind {other:?}"))),
                };
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(column)
            }
        }

        from.deserialize_any(Value)
    }
}

/// An array of at most so many elements that a hostile peer cannot make it cost memory.
#[derive(Debug)]
pub struct Few<T>(pub Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Few<T>, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MOST} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Few<T>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if elements.len() == MOST {
                        return Err(de::Error::invalid_length(MOST + 1, &self));
                    }
                    elements.push(element);
                }
                Ok(Few(elements))
            }
        }

        from.deserialize_seq(Elements(PhantomData))
    }
}

/// `<table-update>` (§4.1.6): rows by their UUID; a row that is not there any more is `None`.
#[derive(Debug)]
pub struct Rows<T>(pub BTreeMap<String, Option<T>>);

impl<T> Default for Rows<T> {
    fn default() -> Rows<T> {
        Rows(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rows<T>, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(bound = "T: Deserialize<'de>")]
        struct RowUpdate<T> {
            #[serde(default = "none")]
            new: Option<T>,
        }
        fn none<T>() -> Option<T> {
            None
        }
        struct Table<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
            type Value = Rows<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {MOST} rows")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows<T>, A::Error> {
                let mut rows = BTreeMap::new();
                while let Some((uuid, update)) = map.next_entry::<String, RowUpdate<T>>()? {
                    if rows.len() == MOST {
                        return Err(de::Error::invalid_length(MOST + 1, &self));
                    }
                    rows.insert(uuid, update.new);
                }
                Ok(Rows(rows))
            }
        }

        from.deserialize_map(Table(PhantomData))
    }
}

/// `<table-updates>` (§4.1.6) of the tables that are monitored.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct TableUpdates {
    #[serde(rename = "Open_vSwitch")]
    pub roots: Rows<RootRow>,
    #[serde(rename = "Bridge")]
    pub bridges: Rows<BridgeRow>,
    #[serde(rename = "Port")]
    pub ports: Rows<PortRow>,
    #[serde(rename = "Interface")]
    pub interfaces: Rows<InterfaceRow>,
}

/// The one row of `Open_vSwitch`. Whoever wants to know when ovs-vswitchd has caught up adds one to
/// `next_cfg`, and waits for `cur_cfg` to reach it.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct RootRow {
    pub cur_cfg: Column,
    pub next_cfg: Column,
}

/// A row of `Bridge`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct BridgeRow {
    pub name: Column,
    pub ports: Column,
}

/// A row of `Port`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct PortRow {
    pub name: Column,
    pub tag: Column,
    pub trunks: Column,
    pub vlan_mode: Column,
    pub interfaces: Column,
}

/// A row of `Interface`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct InterfaceRow {
    pub link_state: Column,
    pub admin_state: Column,
    pub error: Column,
}

/// One element of a `transact` result (§4.1.3); an operation that came after the failed one is null.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct OperationResult {
    /// Rows an update touched.
    pub count: Option<u64>,
    /// What a select of `next_cfg` found.
    pub rows: Few<RootRow>,
    /// The failure, in OVSDB's words: `constraint violation`, `referential integrity violation`, …
    pub error: Option<String>,
    /// What the server says about it.
    pub details: Option<String>,
}

#[cfg(test)]
mod tests;
