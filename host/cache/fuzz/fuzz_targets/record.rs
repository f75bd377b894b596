//! Bytes of a stored head: what reads, reads the same once more.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_cache::Stored;

fuzz_target!(|input: &[u8]| {
    if let Some(stored) = Stored::from_bytes(input) {
        let again = Stored::from_bytes(&stored.to_bytes());
        assert_eq!(again, Some(stored));
    }
});
