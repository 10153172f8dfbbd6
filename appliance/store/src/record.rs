//! Records: serde types with a table and a version. On disk: the version's byte, then JSON.

use crate::{Batch, EventNumber, Store, StoreError, Table, error::EncodeError};
use serde::{Serialize, de::DeserializeOwned};

/// A type whose stored form has a version.
pub trait Versioned: Serialize + DeserializeOwned {
    /// The version written. A change that older code would misread takes the next number.
    const VERSION: u8;

    /// Reads what an older version wrote (`json` is without its version byte).
    ///
    /// The default knows none.
    fn migrate(version: u8, json: &[u8]) -> Result<Self, serde_json::Error> {
        let _ = json;
        Err(serde::de::Error::custom(format_args!("no way from version {version} to {}", Self::VERSION)))
    }
}

/// A type with a table of its own.
pub trait Record: Versioned {
    const TABLE: Table;
}

fn encode<T: Versioned>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![T::VERSION];
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

fn decode<T: Versioned>(place: &dyn Fn() -> String, bytes: &[u8]) -> Result<T, StoreError> {
    let unreadable = |source| StoreError::Unreadable { place: place(), source };
    let Some((&version, json)) = bytes.split_first() else {
        return Err(unreadable(serde::de::Error::custom("empty value")));
    };
    if version > T::VERSION {
        return Err(StoreError::NewerRecord { place: place(), version, known: T::VERSION });
    }
    if version == T::VERSION {
        serde_json::from_slice(json).map_err(unreadable)
    } else {
        T::migrate(version, json).map_err(unreadable)
    }
}

impl Batch {
    /// [`Batch::put`] of a record. A value that JSON cannot hold is refused at commit.
    pub fn put_as<T: Record>(mut self, key: impl Into<String>, value: &T) -> Self {
        let key = key.into();
        match encode(value) {
            Ok(bytes) => self.put(T::TABLE, key, bytes),
            Err(source) => {
                self.encode_error.get_or_insert(EncodeError::new(format!("{}/{key}", T::TABLE), source));
                self
            }
        }
    }

    /// [`Batch::delete`] of a record.
    pub fn delete_as<T: Record>(self, key: impl Into<String>) -> Self {
        self.delete(T::TABLE, key)
    }

    /// [`Batch::event`] of a versioned type.
    pub fn event_as<E: Versioned>(mut self, value: &E) -> Self {
        match encode(value) {
            Ok(bytes) => self.event(bytes),
            Err(source) => {
                self.encode_error.get_or_insert(EncodeError::new("an event".to_owned(), source));
                self
            }
        }
    }
}

/// Records out of any [`Store`]. Older versions are migrated while they are read; they are written back only by a put.
pub trait Typed: Store {
    fn get_as<T: Record>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.get(T::TABLE, key)?;
        bytes.map(|bytes| decode(&|| format!("{}/{key}", T::TABLE), &bytes)).transpose()
    }

    fn scan_as<T: Record>(&self, prefix: &str) -> Result<Vec<(String, T)>, StoreError> {
        self.scan(T::TABLE, prefix)?
            .into_iter()
            .map(|(key, bytes)| {
                let value = decode(&|| format!("{}/{key}", T::TABLE), &bytes)?;
                Ok((key, value))
            })
            .collect()
    }

    fn events_as<E: Versioned>(
        &self,
        after: EventNumber,
        limit: usize,
    ) -> Result<Vec<(EventNumber, E)>, StoreError> {
        self.events(after, limit)?
            .into_iter()
            .map(|(number, bytes)| Ok((number, decode(&|| format!("event {number}"), &bytes)?)))
            .collect()
    }
}

impl<S: Store + ?Sized> Typed for S {}
