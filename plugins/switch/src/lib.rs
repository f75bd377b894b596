//! The sample plugin for protocol switches: a client that asks for `echo` gets its bytes back.

use wharf_sdk::{Error, Request, Response, Router, upgrade};

fn routes() -> Router {
    Router::new().get("/hijack", hijack)
}

async fn hijack(request: Request) -> Result<Response, Error> {
    upgrade::accept(&request, "echo", echo)
}

async fn echo(mut socket: upgrade::Socket) -> Result<(), Error> {
    while let Some(piece) = socket.read().await {
        socket.write(piece).await?;
    }
    Ok(())
}

wharf_sdk::serve!(routes);

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wharf_sdk::{Method, StatusCode};

    use super::*;

    #[test]
    fn without_a_host_that_can_switch_it_says_so() {
        let request = Request::new(Method::GET, "/hijack", ()).unwrap();
        let mut context = Context::from_waker(Waker::noop());

        let answered = pin!(routes().handle(request)).poll(&mut context);

        let Poll::Ready(response) = answered else { panic!("it waits for a host") };
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
}
