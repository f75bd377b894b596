//! Every behaviour, over real sockets, against the real server process. One binary; a file a feature.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

mod admin;
mod capabilities;
mod control;
mod drain;
mod files;
mod hostile;
mod listeners;
mod middleware;
mod plugins;
mod protocols;
mod reload;
mod smuggling;
mod static_folders;
mod streaming;
