//! UTF-8 checked while it arrives, so that a text message is refused at its first wrong byte and not
//! at its end (RFC 6455 §8.1).

/// What was checked so far: only the beginning of a character that is not all here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    begun: [u8; 4],
    length: u8,
}

impl Utf8 {
    /// Whether the text may go on with these bytes.
    pub fn accepts(&mut self, mut bytes: &[u8]) -> bool {
        while self.length > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return true };
            bytes = rest;
            let end = usize::from(self.length);
            self.begun[end] = byte;
            self.length += 1;
            match str::from_utf8(&self.begun[..=end]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                // At most three bytes: with a fourth it would be a character, or none.
                let begun = &bytes[error.valid_up_to()..];
                self.begun[..begun.len()].copy_from_slice(begun);
                self.length = begun.len() as u8;
                true
            }
        }
    }

    /// Whether the text may end here.
    pub fn is_complete(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut utf8 = Utf8::default();
        pieces.into_iter().all(|piece| utf8.accepts(piece)) && utf8.is_complete()
    }

    #[test]
    fn it_agrees_with_the_standard_library_however_the_text_is_cut() {
        for text in [
            "".as_bytes(),
            "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
            "κόσμε 🦀 \u{10ffff}".as_bytes(),
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc0\xaf",
            b"ab\xe2\x82",
            b"\xf0\x9f\xa6a",
            b"\x80",
        ] {
            let expected = str::from_utf8(text).is_ok();
            assert_eq!(check(text.chunks(1)), expected, "{text:02x?}");
            for cut in 0..=text.len() {
                assert_eq!(check([&text[..cut], &text[cut..]]), expected, "{text:02x?} at {cut}");
            }
        }
    }

    #[test]
    fn the_first_wrong_byte_is_enough() {
        let mut utf8 = Utf8::default();

        assert!(utf8.accepts(b"\xf4"));
        assert!(!utf8.accepts(b"\x90"));
    }
}
