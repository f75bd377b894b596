//! The server's connections by state.

use serde::Serialize;
use wharf_sdk::exchange::ConnectionStates;
use wharf_sdk::{Error, Request, Response, StatusCode, header};

/// Since the server started (`new`, `closed`), or at this moment.
#[derive(Serialize)]
struct States {
    new: u64,
    active: u64,
    idle: u64,
    hijacked: u64,
    closed: u64,
}

pub(crate) async fn states(_: Request) -> Result<Response, Error> {
    let states = of_host()
        .ok_or_else(|| Error::new(StatusCode::NOT_IMPLEMENTED).detail("this host counts none"))?;
    answer(states)
}

fn answer(states: ConnectionStates) -> Result<Response, Error> {
    let ConnectionStates { new, active, idle, hijacked, closed } = states;
    Response::json(&States { new, active, idle, hijacked, closed })?
        .with_header(header::CACHE_CONTROL, "no-store")
}

#[cfg(target_family = "wasm")]
fn of_host() -> Option<ConnectionStates> {
    Some(wharf_sdk::exchange::connection_states())
}

#[cfg(not(target_family = "wasm"))]
fn of_host() -> Option<ConnectionStates> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pieces;

    #[test]
    fn every_state_has_its_counter() {
        let states = ConnectionStates { new: 5, active: 4, idle: 3, hijacked: 2, closed: 1 };

        let response = answer(states).unwrap();

        assert_eq!(pieces(response), [r#"{"new":5,"active":4,"idle":3,"hijacked":2,"closed":1}"#]);
    }
}
