//! What jobs make: a picture of the Julia set that belongs to the job's name, a part of its points each
//! step, as an 8-bit BMP.

use sha2::{Digest, Sha256};

pub(crate) const WIDTH: u32 = 320;
pub(crate) const HEIGHT: u32 = 240;
pub(crate) const POINTS: u32 = WIDTH * HEIGHT;

/// Iterations after which a point counts as inside; one colour each.
const MOST: u8 = 255;
/// Bytes of the two headers and the palette (256 colours).
const HEAD: u32 = 14 + 40 + 1024;

/// The set of a name: where its parameter lies, just outside the Mandelbrot set's edge, where Julia
/// sets are worth looking at; and where the colours begin.
pub(crate) struct Julia {
    c: (f64, f64),
    colours: [f64; 3],
}

impl Julia {
    pub(crate) fn of(name: &str) -> Self {
        let hash = Sha256::digest(name);
        let part = |i: usize| f64::from(u16::from_le_bytes([hash[i], hash[i + 1]])) / 65_536.0;
        let angle = part(0) * std::f64::consts::TAU;
        // The main cardioid (c = e^it/2 - e^2it/4), a little outside.
        let out = 1.02 + part(2) * 0.06;
        let c = (
            out * (angle.cos() / 2.0 - (2.0 * angle).cos() / 4.0),
            out * (angle.sin() / 2.0 - (2.0 * angle).sin() / 4.0),
        );
        Self { c, colours: [part(4), part(6), part(8)] }
    }

    /// The points from the `first` on, a byte each.
    pub(crate) fn points(&self, first: u32, count: u32) -> Vec<u8> {
        (first..first + count).map(|point| self.point(point % WIDTH, point / WIDTH)).collect()
    }

    fn point(&self, x: u32, y: u32) -> u8 {
        let scale = 2.6 / f64::from(HEIGHT);
        let mut re = (f64::from(x) - f64::from(WIDTH) / 2.0) * scale;
        let mut im = (f64::from(y) - f64::from(HEIGHT) / 2.0) * scale;
        let mut count = 0;
        while count < MOST && re * re + im * im < 16.0 {
            (re, im) = (re * re - im * im + self.c.0, 2.0 * re * im + self.c.1);
            count += 1;
        }
        count
    }

    /// A BMP of these points; those that are missing are black.
    pub(crate) fn bmp(&self, points: &[u8]) -> Vec<u8> {
        let mut file = Vec::with_capacity((HEAD + POINTS) as usize);
        file.extend_from_slice(b"BM");
        for field in [HEAD + POINTS, 0, HEAD, 40, WIDTH, HEIGHT.wrapping_neg(), 1 | (8 << 16)] {
            file.extend_from_slice(&field.to_le_bytes());
        }
        for field in [0, POINTS, 2835, 2835, 256, 0] {
            file.extend_from_slice(&u32::to_le_bytes(field));
        }
        for count in 0..=MOST {
            file.extend_from_slice(&self.colour(count));
        }
        file.extend_from_slice(points);
        file.resize((HEAD + POINTS) as usize, MOST);
        file
    }

    /// Blue, green, red, and nothing.
    fn colour(&self, count: u8) -> [u8; 4] {
        if count == MOST {
            return [0; 4];
        }
        let t = f64::from(count) / 24.0;
        let light = (t / 2.0).min(1.0);
        let wave = |phase: f64| {
            let wave = 0.5 - 0.5 * (std::f64::consts::TAU * (t * 0.35 + phase)).cos();
            (255.0 * light * wave) as u8
        };
        let [red, green, blue] = self.colours;
        [wave(blue), wave(green), wave(red), 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_whole_files_whatever_is_done() {
        let julia = Julia::of("wharf");
        let points = julia.points(0, 1000);

        for file in [julia.bmp(&[]), julia.bmp(&points), julia.bmp(&julia.points(0, POINTS))] {
            assert_eq!(file.len(), (HEAD + POINTS) as usize);
            assert_eq!(&file[..2], b"BM");
            assert_eq!(file[10..14], HEAD.to_le_bytes());
        }
    }

    #[test]
    fn parts_are_the_whole() {
        let julia = Julia::of("parts");

        let parts = [julia.points(0, 700), julia.points(700, 1300)].concat();

        assert_eq!(parts, julia.points(0, 2000));
        assert_ne!(parts, Julia::of("others").points(0, 2000));
    }
}
