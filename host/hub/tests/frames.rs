//! What is written comes back through the parser that browsers have, whatever is in it.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

mod decoder;

use decoder::{Message, decode, with_plain_ends};
use wharf_hub::{Content, Payload, frame};

const ROUNDS: u64 = 20_000;
/// What could begin something.
const PIECES: [&str; 24] = [
    "\n",
    "\r",
    "\r\n",
    "\0",
    ":",
    " ",
    "data:",
    "data: x",
    "id: 7",
    "event: evil",
    "retry: 1",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "ü",
    "x",
    "",
    "\n\n",
    "\r\r",
    "#",
    ": comment",
    "\t",
    "\u{b}",
    "0",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn text(&mut self) -> String {
        (0..self.roll(8)).map(|_| PIECES[self.roll(PIECES.len())]).collect()
    }
}

#[test]
fn events_come_back_as_they_were_written() {
    let mut dice = Dice(7);
    let mut written = 0;

    for _ in 0..ROUNDS {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut last_id = String::new();
        for _ in 0..=dice.roll(4) {
            let content = Content {
                id: (dice.roll(2) == 0).then(|| dice.text().into()),
                name: (dice.roll(2) == 0).then(|| dice.text().into()),
                data: Payload::text(dice.text()),
                retry: None,
                fields: Box::default(),
            };
            // Comments of the host's stand between events.
            stream.extend_from_slice(&frame::comment(&dice.text()));
            if content.check().is_err() {
                continue;
            }
            written += 1;
            stream.extend_from_slice(&frame::event(&content, content.id.as_deref()));
            if let Some(id) = &content.id {
                last_id = id.to_string();
            }
            let Payload::Text(data) = &content.data else { unreachable!() };
            expected.push(Message {
                kind: content.name.as_deref().unwrap_or("message").to_owned(),
                data: with_plain_ends(std::str::from_utf8(data).unwrap()),
                last_event_id: last_id.clone(),
            });
        }

        let decoded = decode(&stream);

        assert_eq!(decoded.messages, expected, "{:?}", String::from_utf8_lossy(&stream));
        assert_eq!(decoded.retry, None);
    }
    assert!(written > ROUNDS / 2, "most are events: {written}");
}

#[test]
fn a_retry_sets_the_time_and_nothing_else() {
    for milliseconds in [0, 1, 1500, u32::MAX] {
        let decoded = decode(&frame::retry(milliseconds));

        assert_eq!((decoded.retry, decoded.messages), (Some(milliseconds.into()), Vec::new()));
    }
}

#[test]
fn heartbeats_are_seen_by_no_script() {
    let decoded = decode(b":\n\n");

    assert_eq!((decoded.comments, decoded.messages), (1, Vec::new()));
}
