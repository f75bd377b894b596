//! [`file_name`]: what a client calls a file, as a name that is safe in a folder.

/// Bytes of a name; file systems take 255.
const MAX_NAME: usize = 180;

/// The name without the folders before it and without what cannot be seen or would reorder what can;
/// `None` if nothing is left of it.
pub(crate) fn file_name(given: &str) -> Option<String> {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String = last.chars().filter(|&c| !is_hidden(c)).collect();
    let trimmed = visible.trim();
    // `.` and `..` are folders; a name of dots alone looks like one.
    if trimmed.chars().all(|c| c == '.') { None } else { Some(shortened(trimmed)) }
}

/// Control characters, marks that turn the direction of text, and byte order marks.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most [`MAX_NAME`] bytes, the extension kept.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let extension = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 16 => &name[stem.len()..],
        _ => "",
    };
    let mut end = MAX_NAME - extension.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_last_segments_of_visible_characters() {
        for (given, expected) in [
            ("report.pdf", Some("report.pdf")),
            ("Überweisung für Zoë 測試.txt", Some("Überweisung für Zoë 測試.txt")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\Users\\me\\a.txt", Some("a.txt")),
            ("..\\..\\b", Some("b")),
            (" padded ", Some("padded")),
            ("a\r\nset-cookie: x", Some("aset-cookie: x")),
            ("nul\0l", Some("null")),
            ("txt.\u{202e}exe", Some("txt.exe")),
            (".profile", Some(".profile")),
            ("a\"b;c", Some("a\"b;c")),
            ("", None),
            (".", None),
            ("..", None),
            ("folder/", None),
            (" \t\u{200b}", None),
        ] {
            assert_eq!(file_name(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn long_names_keep_their_extension() {
        let long = format!("{}.tar", "ü".repeat(200));

        let name = file_name(&long).unwrap();

        assert!(name.len() <= MAX_NAME && name.ends_with("ü.tar"), "{name}");
    }
}
