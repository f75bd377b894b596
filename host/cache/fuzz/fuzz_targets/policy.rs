//! A policy's text: what is one, is one again as it is sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_cache::Policy;

fuzz_target!(|input: &str| {
    match Policy::parse(input) {
        Ok(policy) => {
            let again = Policy::parse(policy.text()).expect("what is sent is a policy");
            assert_eq!(again, policy);
        }
        Err(error) => assert!(!error.to_string().contains('\n') || input.contains('\n')),
    }
});
