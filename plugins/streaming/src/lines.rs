//! [`Lines`]: whole lines out of pieces that end anywhere.

/// Longer lines are given in parts, so that what is held back stays bounded.
pub(crate) const MAX_LINE: usize = 64 << 10;

/// Takes pieces, gives lines without their line feed (and the carriage return before it).
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Up to here lines were given.
    given: usize,
    /// Up to here there is no line feed.
    searched: usize,
}

impl Lines {
    /// Adds what has arrived.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.given);
        self.searched -= self.given;
        self.given = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next line that is complete.
    pub(crate) fn next_line(&mut self) -> Option<&[u8]> {
        let begin = self.given;
        let end = self.buffer.len().min(begin + MAX_LINE + 1);
        let searched = self.searched.max(begin);
        match self.buffer[searched..end].iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                let feed = searched + at;
                self.given = feed + 1;
                self.searched = self.given;
                let line = &self.buffer[begin..feed];
                Some(line.strip_suffix(b"\r").unwrap_or(line))
            }
            None if end - begin > MAX_LINE => {
                self.given = begin + MAX_LINE;
                self.searched = self.given;
                Some(&self.buffer[begin..self.given])
            }
            None => {
                self.searched = end;
                None
            }
        }
    }

    /// What came after the last line feed, if anything did.
    pub(crate) fn take_rest(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.split_off(self.given);
        *self = Self::default();
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
        let mut lines = Lines::default();
        let mut given = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(line) = lines.next_line() {
                given.push(text(line));
            }
        }
        (given, lines.take_rest().map(|rest| text(&rest)))
    }

    #[test]
    fn lines_are_the_same_wherever_pieces_end() {
        let whole = b"one\n\ntwo\r\nthree";
        let expected = (vec!["one".into(), "".into(), "two".into()], Some("three".into()));

        assert_eq!(all(&[whole]), expected);
        for cut in 0..whole.len() {
            assert_eq!(all(&[&whole[..cut], &whole[cut..]]), expected, "{cut}");
        }
        assert_eq!(all(&whole.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn line_that_is_too_long_comes_in_parts() {
        let long = vec![b'x'; MAX_LINE + 7];
        let (lines, rest) = all(&[&long, b"y\nz"]);

        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 8]);
        assert_eq!(rest.as_deref(), Some("z"));
    }

    #[test]
    fn longest_line_comes_whole() {
        let mut long = vec![b'x'; MAX_LINE];
        long.push(b'\n');

        let (lines, rest) = all(&[&long]);

        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE]);
        assert_eq!(rest, None);
    }
}
