//! HTTP caching as a shared cache does it: RFC 9111, with stale content (RFC 5861), `Cache-Status`
//! (RFC 9211), targeted fields (RFC 9213) and `immutable` (RFC 8246), as pure functions.
//!
//! It does no I/O, spawns nothing and reads no clock: time is an argument. Who calls it, where entries
//! are kept and who waits for whom is `host/src/cache` in the package `wharf`; conditions and ranges of
//! clients are evaluated by `host/src/http`, against the [`Validators`] that a [`Stored`] has.
//!
//! The way of a request: [`lookup::bypass`] says whether the cache is asked at all; a [`Key`] finds
//! the entries; [`lookup::select`] the variant; [`decide`] or [`decide_without`] what happens. The
//! answer goes through [`policy::apply`] and [`storable()`]; a 304 through [`validate::freshen`]; an
//! answer to an unsafe method through [`invalidate::targets`].
//!
//! Ours and theirs: dates are `httpdate`'s (we fold the case before, RFC 9111 §4.2), structured fields
//! `sfv`'s, in both directions. `Cache-Control` is ours: `headers` knows neither field names nor RFC 5861
//! nor what an invalid value must mean. `http-cache-semantics` has the decisions of RFC 9111 in one type,
//! but asks maps of strings at each lookup, refuses without a reason, compares `Vary` unnormalised, and
//! has no targeted fields, no `must-understand`, no RFC 5861, no surrogate keys and no `Cache-Status`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod control;
mod date;
pub mod freshness;
pub mod invalidate;
pub mod key;
pub mod lookup;
pub mod options;
pub mod policy;
mod record;
pub mod status;
pub mod storable;
mod stored;
pub mod validate;
pub mod vary;

pub use self::control::{CacheControl, RequestControl};
pub use self::freshness::Freshness;
pub use self::key::{Key, KeyRules};
pub use self::lookup::{Decision, decide, decide_without};
pub use self::options::{Options, Request, SetCookie, Times};
pub use self::policy::{Policies, Policy};
pub use self::status::CacheStatus;
pub use self::storable::{Refusal, storable};
pub use self::stored::{Stored, Validators};
pub use self::vary::{Selecting, Vary};
