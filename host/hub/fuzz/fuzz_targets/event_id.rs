//! An id that is read is written as one that is read the same, and one of the hub's own is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_hub::{EventId, Hub, Run, Start, SubscriberId, Subscription};

fuzz_target!(|input: &str| {
    if let Some(id) = EventId::parse(input) {
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        id.serial();
    }
    if let Some(id) = SubscriberId::parse(input) {
        assert_eq!(SubscriberId::parse(&id.to_string()), Some(id));
    }
    let hub = Hub::new(Run(7));
    let everything = [(wharf_hub::SelectorKind::Pattern, "*")];
    let subscription = Subscription::new("", everything, []).expect("it is one");
    let (cursor, _) = hub.begin(&subscription, &Start::After(input.to_owned()));
    assert!(hub.replay(&subscription, cursor, 10, hub.losses()).events.is_empty());
});
