//! The test harness: a real server process in a folder of its own, and clients for the three
//! protocols made of libraries that others wrote (hyper, h2, quinn with h3).

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a failing harness must panic")]

mod client;
pub mod clients;
mod events;
mod server;
mod stream;
mod tunnel;
pub mod websocket;

pub use client::{Answer, Client, Protocol};
pub use events::{EventStream, StreamEvent};
pub use server::{Builder, Predecessor, TestServer, guest, guest_unless_skipped, wharf};
pub use stream::{Incoming, Outgoing};
pub use tunnel::{Tunnel, TunnelReader, TunnelWriter};

/// Runs one test body against a server over HTTP/1.1, HTTP/2 and HTTP/3: three tests of one text.
///
/// ```ignore
/// each_protocol!(hello_is_answered, |protocol| async move { .. });
/// ```
#[macro_export]
macro_rules! each_protocol {
    ($name:ident, $body:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a body may use nothing from around it")]
            use super::*;

            #[tokio::test]
            async fn h1() {
                ($body)($crate::Protocol::H1).await;
            }

            #[tokio::test]
            async fn h2() {
                ($body)($crate::Protocol::H2).await;
            }

            #[tokio::test]
            async fn h3() {
                ($body)($crate::Protocol::H3).await;
            }
        }
    };
}
