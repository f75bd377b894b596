//! [`Next`]: the handler that a middleware wraps.

use std::rc::Rc;

use crate::router::Handler;
use crate::{Error, Request, Response};

/// The handler behind this one: another middleware or the plugin itself.
#[derive(Clone)]
pub struct Next(Target);

#[derive(Clone)]
enum Target {
    /// The host's `wasi:http/handler` import.
    #[cfg(target_family = "wasm")]
    Host,
    /// A handler of this program, for tests.
    Local(Rc<dyn Handler>),
}

impl Next {
    /// Stands in for the host: a test's middleware wraps `handler`.
    pub fn from_handler(handler: impl Handler) -> Self {
        Self(Target::Local(Rc::new(handler)))
    }

    /// Passes `request` on and waits for the response's head. Bodies that are not read stay with
    /// the host, both ways, trailers included.
    ///
    /// # Errors
    ///
    /// The handler behind failed without a response. Given on with `?`, the host sees the very
    /// same failure.
    pub async fn run(self, request: Request) -> Result<Response, Error> {
        match self.0 {
            #[cfg(target_family = "wasm")]
            Target::Host => crate::wasi::run_next(request).await,
            Target::Local(handler) => handler.call(request).await,
        }
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn host() -> Self {
        Self(Target::Host)
    }
}

/// What wraps another handler: any `async fn(Request, Next) -> Result<Response, Error>`.
pub trait Middleware: 'static {
    /// Answers `request`, usually through `next`.
    fn call(&self, request: Request, next: Next) -> impl Future<Output = Result<Response, Error>>;
}

impl<F, Fut> Middleware for F
where
    F: Fn(Request, Next) -> Fut + 'static,
    Fut: Future<Output = Result<Response, Error>> + 'static,
{
    fn call(&self, request: Request, next: Next) -> impl Future<Output = Result<Response, Error>> {
        self(request, next)
    }
}
