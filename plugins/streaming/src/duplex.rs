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
            while let Some(line) = lines.next_line() {
                writer.write(reply(line)).await?;
            }
        }
        if let Some(rest) = lines.take_rest() {
            writer.write(reply(&rest)).await?;
        }
        Ok(())
    })
}

fn reply(line: &[u8]) -> Vec<u8> {
    [b"echo: ", line, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use wharf_sdk::{Body, Method};

    use crate::testing::{answer, pieces};

    #[test]
    fn every_line_has_an_answer_of_its_own() {
        let body = Body::stream(async |mut writer| {
            writer.write("one\ntw").await?;
            writer.write("o\n\nrest").await?;
            Ok(())
        });

        let response = answer(Method::POST, "/duplex", body);

        assert_eq!(pieces(response), ["echo: one\n", "echo: two\n", "echo: \n", "echo: rest\n"]);
    }
}
