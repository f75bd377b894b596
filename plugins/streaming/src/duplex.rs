//! Full duplex: each line of the request is answered while the rest is still to come.

use wharf_sdk::{Error, Request, Response};

use crate::lines::Lines;
use crate::reply::live;

pub(crate) async fn duplex(mut request: Request) -> Result<Response, Error> {
    let mut body = std::mem::take(request.body_mut());
    live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        let mut lines = Lines::default();
        while let Some(piece) = body.next().await.transpose()? {
            lines.push(&piece);
            // Lines that came together are answered together: a write each would be most of the work.
            let mut replies = Vec::new();
            while let Some(line) = lines.next_line() {
                reply(&mut replies, line);
            }
            writer.write(replies).await?;
        }
        if let Some(rest) = lines.take_rest() {
            let mut last = Vec::new();
            reply(&mut last, &rest);
            writer.write(last).await?;
        }
        Ok(())
    })
}

fn reply(replies: &mut Vec<u8>, line: &[u8]) {
    replies.extend_from_slice(line);
    replies.push(b'\n');
}

#[cfg(test)]
mod tests {
    use wharf_sdk::{Body, Method};

    use crate::testing::{answer, pieces};

    #[test]
    fn every_line_is_answered_when_it_is_complete() {
        let body = Body::stream(async |mut writer| {
            writer.write("one\ntw").await?;
            writer.write("o\n\nrest").await?;
            Ok(())
        });

        let response = answer(Method::POST, "/duplex", body);

        assert_eq!(pieces(response), ["one\n", "two\n\n", "rest\n"]);
    }
}
