//! The way of a request: one method, its stages plain functions called in reading order.

/// What answers requests.
#[derive(Debug)]
pub struct App {}
