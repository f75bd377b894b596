//! CSV as RFC 4180 has it: CRLF after each line, quotes around what needs them.

use wharf_sdk::sql::{Row, SqlError};

/// Lines that have not been sent.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: Vec<u8>,
}

impl Lines {
    /// The names of the columns.
    pub(crate) fn header(&mut self) {
        self.text.extend_from_slice(b"id,name,email,country,created\r\n");
    }

    /// One user; gives its id.
    pub(crate) fn user(&mut self, row: &Row) -> Result<i64, SqlError> {
        let id: i64 = row.get(0)?;
        self.number(id.unsigned_abs());
        for column in 1..5 {
            self.text.push(b',');
            self.field(row.get::<&str>(column)?);
        }
        self.text.extend_from_slice(b"\r\n");
        Ok(id)
    }

    /// Takes the lines.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let next = Vec::with_capacity(self.text.capacity());
        std::mem::replace(&mut self.text, next)
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut begin = digits.len();
        loop {
            begin -= 1;
            digits[begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.text.extend_from_slice(&digits[begin..]);
    }

    fn field(&mut self, text: &str) {
        let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
        if !text.as_bytes().iter().any(special) {
            self.text.extend_from_slice(text.as_bytes());
            return;
        }
        self.text.push(b'"');
        for part in text.split_inclusive('"') {
            self.text.extend_from_slice(part.as_bytes());
            if part.ends_with('"') {
                self.text.push(b'"');
            }
        }
        self.text.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (field, written) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("\"", "\"\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("cr\r", "\"cr\r\""),
        ] {
            let mut lines = Lines::default();

            lines.field(field);

            assert_eq!(lines.take(), written.as_bytes());
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 9_999_999, u64::MAX] {
            let mut lines = Lines::default();

            lines.number(number);

            assert_eq!(lines.take(), number.to_string().as_bytes());
        }
    }
}
