//! Write Wharf plugins, and any `wasi:http` component, in Rust.
//!
//! ```
//! use wharf_sdk::{Error, Request, Response, Router};
//!
//! fn routes() -> Router {
//!     Router::new().get("/hello/{name}", hello)
//! }
//!
//! async fn hello(request: Request) -> Result<Response, Error> {
//!     Ok(Response::text(format!("hello {}", request.param("name")?)))
//! }
//!
//! wharf_sdk::serve!(routes);
//! # fn main() {}
//! ```
//!
//! Built with `cargo build --release --target wasm32-wasip2` as a `cdylib`, that is a component
//! that exports `wasi:http/handler@0.3.2`. It runs on any host of WASI 0.3 as long as it uses
//! none of [`Request::exchange`], [`cache`], [`files`], [`hub`], [`metrics`], [`registry`], [`sql`], [`sse`],
//! [`upgrade`] and [`mod@websocket`], which are Wharf's own: an interface that is not used is not imported,
//! and one that is not exported ([`schedule!`], [`websocket!`]) is not there. [`keyvalue`] is
//! `wasi:keyvalue`.
//!
//! Natively the crate has its types, the router and handlers, so that plugins have ordinary tests
//! (`router.handle(request).await`); what needs a host answers that there is none.
//!
//! There is no unsafe code here; the bindings that `wit-bindgen` generates have some, as every
//! crossing of the canonical ABI must.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod accept;
mod body;
pub mod cache;
pub mod client;
pub mod config;
mod error;
pub mod exchange;
pub mod files;
pub mod hub;
pub mod keyvalue;
pub mod metrics;
mod middleware;
pub mod registry;
mod request;
mod response;
mod router;
pub mod schedule;
mod spawn;
pub mod sql;
pub mod sse;
pub mod upgrade;
#[cfg(target_family = "wasm")]
mod wasi;
pub mod websocket;

pub use bytes::Bytes;
pub use http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

pub use body::{Body, BodyWriter, Closed};
pub use error::Error;
pub use middleware::{Middleware, Next};
pub use request::Request;
pub use response::{IntoResponse, Response};
pub use router::{Handler, Router};
pub use spawn::spawn;
#[cfg(target_family = "wasm")]
pub use wasi::sleep;

#[cfg(target_family = "wasm")]
mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world plugin {
                include wharf:host/host@0.1.0;
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "wharf:sdk/plugin",
        generate_all,
    });
}

/// Makes a component of a function that gives the [`Router`].
///
/// The function is called once for each instance. Natively the macro does nothing, so that the
/// same crate has native tests.
#[macro_export]
macro_rules! serve {
    ($routes:expr) => {
        const _: fn() -> $crate::Router = $routes;

        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static ROUTER: ::std::rc::Rc<$crate::Router> =
                    ::std::rc::Rc::new(($routes as fn() -> $crate::Router)());
            }

            struct Plugin;

            impl $crate::__rt::Guest for Plugin {
                async fn handle(
                    request: $crate::__rt::Request,
                ) -> ::core::result::Result<$crate::__rt::Response, $crate::__rt::ErrorCode>
                {
                    $crate::__rt::serve(ROUTER.with(::std::clone::Clone::clone), request).await
                }
            }

    $crate::__rt::export!(Plugin with_types_in $crate::__rt::wasip3);
        };
    };
}

/// Makes a middleware component of an `async fn(Request, Next) -> Result<Response, Error>`.
///
/// ```
/// use wharf_sdk::{Error, HeaderValue, Next, Request, Response};
///
/// async fn no_store(request: Request, next: Next) -> Result<Response, Error> {
///     let mut response = next.run(request).await?;
///     response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
///     Ok(response)
/// }
///
/// wharf_sdk::middleware!(no_store);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! middleware {
    ($handler:path) => {
        const _: () = {
            const fn is_middleware(_: &impl $crate::Middleware) {}
            is_middleware(&$handler);
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Plugin;

            impl $crate::__rt::Guest for Plugin {
                async fn handle(
                    request: $crate::__rt::Request,
                ) -> ::core::result::Result<$crate::__rt::Response, $crate::__rt::ErrorCode>
                {
                    $crate::__rt::wrap(&$handler, request).await
                }
            }

    $crate::__rt::export!(Plugin with_types_in $crate::__rt::wasip3);
        };
    };
}

/// What the macros above expand to; no part of the interface.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __rt {
    pub use crate::schedule::__rt as schedule;
    pub use crate::wasi::{serve, wrap};
    pub use crate::websocket::__rt as websocket;
    pub use wasip3;
    pub use wasip3::exports::http::handler::Guest;
    pub use wasip3::http::service::export;
    pub use wasip3::http::types::{ErrorCode, Request, Response};
}

#[cfg(test)]
mod testing {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Runs a future that needs no host: it never waits for anything but itself.
    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits for a host"),
        }
    }
}
