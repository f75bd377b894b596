//! Stand-in.
use std::time::Duration;
#[derive(Debug)]
pub struct Upstream {}
#[derive(Debug)]
pub struct OutboundGrants {}
#[derive(Debug, Default)]
pub struct Timeouts {
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub between_bytes: Option<Duration>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct UpstreamError;
impl OutboundGrants {
    pub fn parse(_o: &[String]) -> Result<Self, UpstreamError> {
        Ok(Self {})
    }
}
pub type UpstreamRequestBody = http_body_util::combinators::UnsyncBoxBody<
    bytes::Bytes,
    Box<dyn std::error::Error + Send + Sync>,
>;
pub type UpstreamBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, UpstreamError>;
impl Upstream {
    pub async fn send(
        &self,
        _g: &OutboundGrants,
        _r: http::Request<UpstreamRequestBody>,
        _t: Timeouts,
    ) -> Result<http::Response<UpstreamBody>, UpstreamError> {
        Err(UpstreamError)
    }
}
