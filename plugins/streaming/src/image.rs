//! A progressive JPEG in small pieces: a browser shows it blurred at first, then sharper.

use std::time::Duration;

use wharf_sdk::{Error, Request, Response};

use crate::reply::live;
use crate::wait::wait;

static IMAGE: &[u8] = include_bytes!("wharf.jpg");
const PIECE_SIZE: usize = 4 << 10;
/// Long enough for an eye to see the difference that a piece makes.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn progressive(request: Request) -> Result<Response, Error> {
    let exchange = request.exchange();
    live(&request, "image/jpeg", async move |mut writer| {
        for (i, piece) in IMAGE.chunks(PIECE_SIZE).enumerate() {
            if i > 0 {
                wait(exchange.as_ref(), PAUSE).await?;
            }
            writer.write(piece).await?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marker of a progressive frame (ITU-T T.81, table B.1).
    const SOF2: [u8; 2] = [0xff, 0xc2];

    #[test]
    fn image_is_a_progressive_jpeg_of_many_pieces() {
        assert!(IMAGE.starts_with(&[0xff, 0xd8]) && IMAGE.ends_with(&[0xff, 0xd9]));
        assert!(IMAGE.windows(2).any(|marker| marker == SOF2));
        assert!(IMAGE.chunks(PIECE_SIZE).count() >= 10);
    }
}
