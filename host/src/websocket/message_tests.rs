use rand::RngExt;

use super::*;
use crate::websocket::deflate::{COMPRESS_FROM, MAX_WINDOW, deflate};

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    let begin = frame.len();
    frame.extend_from_slice(payload);
    unmask(&mut mask.clone(), &mut frame[begin..]);
    frame
}

fn decode_with(
    mut decoder: Decoder,
    wire: &[u8],
    piece: usize,
) -> Result<Vec<Item>, (Vec<Item>, Violation)> {
    let mut items = Vec::new();
    for piece in wire.chunks(piece) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.step(&mut input, false) {
                Ok(Step::Item(item)) => items.push(item),
                Ok(Step::NeedsMore) => break assert!(input.is_empty()),
                Ok(Step::Turn) => {}
                Ok(Step::Held) => unreachable!("nothing is held"),
                Err(violation) => return Err((items, violation)),
            }
        }
    }
    assert!(!decoder.is_midway());
    Ok(items)
}

fn decode(wire: &[u8], piece: usize) -> Result<Vec<Item>, (Vec<Item>, Violation)> {
    decode_with(Decoder::new(1 << 20, true), wire, piece)
}

fn text(text: &str) -> Item {
    Item::Message(Payload::Text(text.to_owned()))
}

#[test]
fn control_frames_come_between_the_fragments_of_a_message() {
    let wire = [
        frame(0x01, b"Hel"),
        frame(0x89, b"are you there"),
        frame(0x00, b""),
        frame(0x80, b"lo"),
        frame(0x82, &[7; 300]),
        frame(0x8a, b""),
        frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
    ]
    .concat();

    for piece in [1, 2, 7, 1000] {
        assert_eq!(
            decode(&wire, piece).unwrap(),
            [
                Item::Ping(b"are you there".to_vec()),
                text("Hello"),
                Item::Message(Payload::Binary(vec![7; 300])),
                Item::Pong,
                Item::Close(Some((1000, "bye".to_owned()))),
            ]
        );
    }
}

#[test]
fn sequences_are_held_to_the_rfc() {
    let compressed = deflate(&[b'a'; COMPRESS_FROM], MAX_WINDOW).unwrap();
    for (what, wire, code) in [
        ("§5.4: continuation of nothing", frame(0x80, b"x"), 1002),
        ("§5.4: after a whole message", [frame(0x81, b"x"), frame(0x80, b"y")].concat(), 1002),
        ("§5.4: message within a message", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        (
            "RFC 7692 §6.1: RSV1 only on the first frame",
            [frame(0x41, &compressed), frame(0xc0, b"")].concat(),
            1002,
        ),
        ("§5.5.1: half a code", frame(0x88, &[3]), 1002),
        ("§7.4.1: 1005 is never sent", frame(0x88, &[0x03, 0xed]), 1002),
        ("§5.5.1: reason is text", frame(0x88, &[0x03, 0xe8, 0xff]), 1007),
        ("§8.1: text is UTF-8", frame(0x81, b"a\xffb"), 1007),
        ("§8.1: to its end", frame(0x81, b"a\xe2\x82"), 1007),
        ("§8.1: over fragments", [frame(0x01, b"\xe2"), frame(0x80, b"\xff")].concat(), 1007),
        ("RFC 7692: not DEFLATE", frame(0xc2, &[0xff; 20]), 1007),
        (
            "RFC 7692: text within is UTF-8",
            frame(0xc1, &deflate(&[0xc0; COMPRESS_FROM], MAX_WINDOW).unwrap()),
            1007,
        ),
    ] {
        for piece in [1, 1000] {
            assert_eq!(decode(&wire, piece).unwrap_err().1.code, code, "{what}");
        }
    }
}

#[test]
fn rsv1_needs_the_extension() {
    let decoder = Decoder::new(1000, false);

    let violation = decode_with(decoder, &frame(0xc1, b"x"), 100).unwrap_err().1;

    assert_eq!(violation.code, 1002);
}

#[test]
fn a_wrong_byte_is_refused_before_the_rest_of_the_frame() {
    let mut wire = frame(0x81, &[b'a'; 1000]);
    wire.truncate(8 + 10);
    wire[8 + 8] ^= 0x80;

    let mut decoder = Decoder::new(1 << 20, true);
    let refused = decoder.step(&mut &mut wire[..], false).unwrap_err();

    assert_eq!(refused.code, 1007);
}

#[test]
fn sizes_are_refused_by_the_head() {
    let decoder = || Decoder::new(1000, true);
    let head = |first: u8, length: u64| {
        let mut head = vec![first, 0xff];
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        head
    };
    for wire in [
        head(0x82, 1001),
        head(0x82, u64::MAX >> 1),
        head(0x82, 1 << 63),
        head(0xc2, 4000),
        [frame(0x02, &[0; 600]), head(0x80, 401)].concat(),
        [frame(0x02, &[0; 600]), head(0x00, u64::MAX >> 1)].concat(),
    ] {
        let (_, violation) = decode_with(decoder(), &wire, 7).unwrap_err();
        assert_eq!(violation.code, 1009, "{wire:02x?}");
    }
    assert!(decode_with(decoder(), &frame(0x82, &[0; 1000]), 7).is_ok());
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let bomb = deflate(&[0; 200_000], MAX_WINDOW).unwrap();
    assert!(bomb.len() < 4000);

    let (_, violation) =
        decode_with(Decoder::new(100_000, true), &frame(0xc2, &bomb), 100).unwrap_err();

    assert_eq!(violation.code, 1009);
    let whole = decode_with(Decoder::new(200_000, true), &frame(0xc2, &bomb), 100).unwrap();
    assert!(whole == [Item::Message(Payload::Binary(vec![0; 200_000]))]);
}

#[test]
fn frames_without_a_byte_are_bounded() {
    let mut wire = frame(0x02, b"");
    for _ in 0..MAX_EMPTY_FRAMES {
        wire.extend(frame(0x00, b""));
    }

    assert_eq!(decode(&wire, 1000).unwrap_err().1.code, close::POLICY);
}

#[test]
fn a_held_message_lets_control_frames_by_until_it_begins() {
    let mut wire = [frame(0x89, b"1"), frame(0x81, b"later"), frame(0x89, b"2")].concat();
    let mut input = &mut wire[..];
    let mut decoder = Decoder::new(1000, false);

    assert_eq!(decoder.step(&mut input, true), Ok(Step::Item(Item::Ping(b"1".to_vec()))));
    assert_eq!(decoder.step(&mut input, true), Ok(Step::Held));
    assert_eq!(decoder.step(&mut input, true), Ok(Step::Held));
    assert_eq!(decoder.step(&mut input, false), Ok(Step::Item(text("later"))));
    assert_eq!(decoder.step(&mut input, true), Ok(Step::Item(Item::Ping(b"2".to_vec()))));
}

#[test]
fn whatever_is_sent_comes_out_however_it_is_cut() {
    let mut rng = rand::rng();
    for _ in 0..300 {
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            let length = [0, 1, 125, 126, 300, 5000, 70_000][rng.random_range(0..7)];
            let is_text = rng.random_bool(0.5);
            let alphabet = ['a', 'b', ' ', 'é', '€', '🦀'];
            let data: Vec<u8> = if is_text {
                let chars = (0..length / 3).map(|_| alphabet[rng.random_range(0..6)]);
                chars.collect::<String>().into_bytes()
            } else {
                (0..length).map(|_| rng.random_range(0..4)).collect()
            };
            let compressed = deflate(&data, MAX_WINDOW).filter(|_| rng.random_bool(0.5));
            let mut first = if is_text { 0x01 } else { 0x02 };
            first |= if compressed.is_some() { 0x40 } else { 0 };
            let mut rest = compressed.as_deref().unwrap_or(&data);
            while rng.random_bool(0.5) {
                let (piece, after) = rest.split_at(rng.random_range(0..=rest.len()));
                wire.extend(frame(first, piece));
                wire.extend(frame(0x89, b"between"));
                expected.push(Item::Ping(b"between".to_vec()));
                (first, rest) = (0, after);
            }
            wire.extend(frame(0x80 | first, rest));
            expected.push(Item::Message(if is_text {
                Payload::Text(String::from_utf8(data).unwrap())
            } else {
                Payload::Binary(data)
            }));
        }
        let piece = [1, 2, 3, 100, 16_384][rng.random_range(0..5)];
        assert!(decode(&wire, piece).unwrap() == expected);
    }
}

#[test]
fn noise_is_refused_or_understood_and_never_more() {
    let mut rng = rand::rng();
    for _ in 0..2000 {
        let mut noise: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        let mut decoder = Decoder::new(10_000, true);
        let mut input = &mut noise[..];
        while let Ok(step) = decoder.step(&mut input, false) {
            if step == Step::NeedsMore {
                break;
            }
        }
    }
}
