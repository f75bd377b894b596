//! Wharf, a WebAssembly application server.
//!
//! [`cli`] turns arguments into [`config::Config`]; [`server`] binds the [`listener`]s and owns
//! everything; [`http`] speaks the three protocols and ends in [`app::App`]; [`route`] and
//! [`admit`] decide, [`cache`] answers what it can, [`plugin`] runs components, [`files`] opens what is sent as it is, [`store`]
//! has what they keep, [`hub`] carries events between them and to clients, [`websocket`] holds their
//! clients' sockets, [`upstream`] is their way out; [`observe`] and [`admin`] tell what happened;
//! [`drain`] ends it all, and [`takeover`] lets another process go on.

pub mod admin;
pub mod admit;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod drain;
pub mod files;
pub mod http;
pub mod hub;
pub mod listener;
pub mod observe;
pub mod plugin;
pub mod ready;
pub mod route;
pub mod server;
pub mod store;
pub mod takeover;
pub mod upstream;
pub mod websocket;
