//! Pairs of a key and a value that last: `wasi:keyvalue` 0.2.0-draft2. On Wharf it needs
//! `keyvalue = true` under `[capabilities]`; a write is on the disk when it is answered.
//!
//! The functions of `wasi:keyvalue` are synchronous: other requests of the instance wait for them,
//! which is a few milliseconds for a write. What is to run beside other requests keeps its state in
//! [`sql`](crate::sql).

use std::fmt;

/// Why a bucket did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host has no such bucket.
    NoSuchStore,
    /// The manifest does not grant `keyvalue`.
    AccessDenied,
    /// Anything else.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => f.write_str("there is no such bucket"),
            Self::AccessDenied => {
                f.write_str("the manifest does not have `keyvalue = true` under [capabilities]")
            }
            Self::Other(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for Error {}

/// Opens the plugin's default bucket.
///
/// # Errors
/// [`Error::AccessDenied`]; natively always, as there is no host.
pub fn open_default() -> Result<Bucket, Error> {
    open("default")
}

/// Opens a bucket of the plugin's own; `""` and `default` are the same one.
///
/// # Errors
/// [`Error::AccessDenied`]; natively always, as there is no host.
pub fn open(name: &str) -> Result<Bucket, Error> {
    #[cfg(target_family = "wasm")]
    return host::store::open(name).map(Bucket).map_err(Error::from);
    #[cfg(not(target_family = "wasm"))]
    Err(Error::Other(format!("there is no host to open {name:?}")))
}

#[cfg(target_family = "wasm")]
use crate::bindings::wasi::keyvalue0_2_0_draft2 as host;

/// A key that was asked for, and its value where it has one.
pub type Found = (String, Option<Vec<u8>>);

/// A bucket.
#[derive(Debug)]
#[cfg(target_family = "wasm")]
pub struct Bucket(host::store::Bucket);
/// A bucket. Natively there is none.
#[derive(Debug)]
#[cfg(not(target_family = "wasm"))]
pub struct Bucket(std::convert::Infallible);

#[cfg(target_family = "wasm")]
impl From<host::store::Error> for Error {
    fn from(error: host::store::Error) -> Self {
        match error {
            host::store::Error::NoSuchStore => Self::NoSuchStore,
            host::store::Error::AccessDenied => Self::AccessDenied,
            host::store::Error::Other(cause) => Self::Other(cause),
        }
    }
}

/// Keys of a bucket and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most 1,000 of them, in no particular order.
    pub keys: Vec<String>,
    /// `None`: these were the last.
    pub cursor: Option<String>,
}

#[cfg(target_family = "wasm")]
impl Bucket {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key)?)
    }

    /// Sets a pair.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(self.0.set(key, value)?)
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.0.exists(key)?)
    }

    /// A page of keys: the first, or the one at a [`Page::cursor`].
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn keys(&self, cursor: Option<&str>) -> Result<Page, Error> {
        let page = self.0.list_keys(cursor)?;
        Ok(Page { keys: page.keys, cursor: page.cursor })
    }

    /// Adds to a number, kept as decimal digits, and gives the sum. A key that is not there is 0.
    ///
    /// # Errors
    /// [`Error::Other`], also where the value is no number.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        Ok(host::atomics::increment(&self.0, key, delta)?)
    }

    /// The values of keys, all of one moment.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Found>, Error> {
        Ok(host::batch::get_many(&self.0, keys)?)
    }

    /// Sets pairs, all or none.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Error> {
        Ok(host::batch::set_many(&self.0, pairs)?)
    }

    /// Deletes keys, all or none.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        Ok(host::batch::delete_many(&self.0, keys)?)
    }

    /// Changes a value by a function of what it was, again until nobody else changes it meanwhile,
    /// and gives the new one.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        use host::atomics::{Cas, CasError, swap};

        let mut seen = Cas::new(&self.0, key)?;
        loop {
            let value = change(seen.current()?);
            match swap(seen, &value) {
                Ok(()) => return Ok(value),
                Err(CasError::CasFailed(now)) => seen = now,
                Err(CasError::StoreError(error)) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_family = "wasm"))]
impl Bucket {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn get(&self, _key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.0 {}
    }

    /// Sets a pair.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn set(&self, _key: &str, _value: &[u8]) -> Result<(), Error> {
        match self.0 {}
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn delete(&self, _key: &str) -> Result<(), Error> {
        match self.0 {}
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn exists(&self, _key: &str) -> Result<bool, Error> {
        match self.0 {}
    }

    /// A page of keys.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn keys(&self, _cursor: Option<&str>) -> Result<Page, Error> {
        match self.0 {}
    }

    /// Adds to a number and gives the sum.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn increment(&self, _key: &str, _delta: i64) -> Result<i64, Error> {
        match self.0 {}
    }

    /// The values of keys.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn get_many(&self, _keys: &[String]) -> Result<Vec<Found>, Error> {
        match self.0 {}
    }

    /// Sets pairs, all or none.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn set_many(&self, _pairs: &[(String, Vec<u8>)]) -> Result<(), Error> {
        match self.0 {}
    }

    /// Deletes keys, all or none.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn delete_many(&self, _keys: &[String]) -> Result<(), Error> {
        match self.0 {}
    }

    /// Changes a value by a function of what it was.
    ///
    /// # Errors
    /// [`Error::Other`].
    pub fn update(
        &self,
        _key: &str,
        _change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        match self.0 {}
    }
}
