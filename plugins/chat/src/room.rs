//! Rooms, the names of those in them, and the topics of both.

use std::hash::{BuildHasher, RandomState};

use wharf_sdk::Error;

/// Letters of a room's name, or of a person's.
const MAX_NAME: usize = 64;

/// A room's name: letters, digits, `-` and `_`.
///
/// # Errors
/// 400 for other names.
pub(crate) fn room_of(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let count = name.chars().count();
    if (1..=MAX_NAME).contains(&count) && name.chars().all(plain) {
        Ok(name.to_owned())
    } else {
        Err(Error::bad_request("room: 1 to 64 letters, digits, `-` and `_`"))
    }
}

/// A person's name; a guest's where none is given.
///
/// # Errors
/// 400 for names that are empty, too long or have control characters.
pub(crate) fn name_of(name: Option<&str>) -> Result<String, Error> {
    let Some(name) = name.map(str::trim) else {
        let number = RandomState::new().hash_one(0) % 10_000;
        return Ok(format!("guest-{number:04}"));
    };
    let count = name.chars().count();
    if (1..=MAX_NAME).contains(&count) && !name.contains(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(Error::bad_request("name: 1 to 64 characters, none of them a control character"))
    }
}

/// Everything that happens in a room.
pub(crate) fn topic(room: &str) -> String {
    format!("chat/{room}")
}

/// What is said in it.
pub(crate) fn topic_of_messages(room: &str) -> String {
    format!("chat-messages/{room}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_one_segment_of_a_topic() {
        for good in ["lobby", "a-b_c", "Küche", &"x".repeat(64)] {
            assert_eq!(room_of(good).unwrap(), good);
        }
        for bad in ["", "a/b", "*", "a b", "a\n", &"x".repeat(65)] {
            assert!(room_of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whoever_has_no_name_is_a_guest() {
        assert!(name_of(None).unwrap().starts_with("guest-"));
        assert_eq!(name_of(Some(" ada ")).unwrap(), "ada");
        for bad in ["", " ", "a\u{0}b", &"x".repeat(65)] {
            assert!(name_of(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
