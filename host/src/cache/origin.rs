//! Who answers where nothing is stored: what the cache has to know of the plugin behind a route, and how
//! it asks it. `app.rs` has the real one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use crate::http::body::{RequestBody, ResponseBody};
use crate::http::control::Control;
use crate::plugin::manifest::cache::RoutePolicy;

/// Who answers, and how the cache is to behave for it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The plugin's name.
    pub plugin: &'a Arc<str>,
    /// The pattern that matched, for metrics.
    pub route: &'a str,
    /// What its keys begin with: the plugin and all versions that have part in its answers.
    pub space: &'a str,
    /// What its manifest says.
    pub policy: &'a RoutePolicy,
    /// It has a part of the cache to itself.
    pub has_own: bool,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As the validator left it.
    pub authority: &'a str,
}

/// What asks the plugin behind a route, in the name of one request.
pub trait Origin: Send + Sync + Sized + 'static {
    /// Why there is no answer.
    type Refusal: Send + 'static;

    /// Who answers.
    fn asked(&self) -> Asked<'_>;

    /// Asks it.
    fn call(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Called, Self::Refusal>> + Send;

    /// One that asks for the cache itself, after the client has been answered.
    fn background(&self) -> Self;
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Called {
    /// The answer.
    pub response: Response<ResponseBody>,
    /// What the plugin wishes for it.
    pub control: Option<Arc<Control>>,
    /// The host holds the body: a stream of events, a socket, a file.
    pub is_held: bool,
    /// How long it took.
    pub took: Duration,
}
