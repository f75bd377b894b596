//! Every behaviour, over real sockets, against the real server process. One binary; a file a feature.

#![expect(clippy::unwrap_used, reason = "a failing test must panic")]

mod admin;
mod cache;
mod caching;
mod cancelled;
mod capabilities;
mod chat;
mod clients;
mod coding;
mod conditions;
mod control;
mod download;
mod drain;
mod early_data;
mod events;
mod files;
mod held;
mod hints;
mod hostile;
mod hub;
mod hub_storm;
mod jobs;
mod languages;
mod listeners;
mod mercure;
mod mercure_clients;
mod middleware;
mod plugins;
mod polling;
mod protocols;
mod proxy;
mod push;
mod reload;
mod schedule;
mod smuggling;
mod static_folders;
mod store;
mod streaming;
mod takeover;
mod upgrade;
mod websocket;
mod websocket_clients;
