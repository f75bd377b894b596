//! Outbound requests of guests: `wasi:http/client` (0.3) and `wasi:http/outgoing-handler` (0.2) end
//! in the host's one client, under the plugin's granted origins.

use std::sync::{Arc, Weak};

use http::header::{HOST, UPGRADE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpHooks,
};

use crate::http::validate::connection_fields;
use crate::plugin::EXCHANGE_FIELD;
use crate::plugin::call::Call;
use crate::plugin::state::Environment;
use crate::upstream::{Forwarding, OnInterim, OutboundGrants, Timeouts, Upstream, UpstreamError};

/// The `wasi:http` hooks of one instance.
#[derive(Debug)]
pub struct Outbound {
    upstream: Arc<Upstream>,
    grants: Arc<OutboundGrants>,
    /// It may say `Host` itself.
    names_hosts: bool,
    /// Calls that are running in the instance.
    calls: Vec<Weak<Call>>,
}

impl Outbound {
    /// The hooks of an instance with these grants.
    pub fn new(environment: &Environment) -> Self {
        Self {
            upstream: Arc::clone(&environment.services.upstream),
            grants: Arc::clone(&environment.outbound),
            names_hosts: environment.manifest.capabilities.outbound_host,
            calls: Vec::new(),
        }
    }

    /// The instance runs these calls now.
    pub fn serves(&mut self, calls: &[Arc<Call>]) {
        self.calls.clear();
        self.calls.extend(calls.iter().map(Arc::downgrade));
    }

    /// What goes with a request. The exchange that it names by its token gets the interim responses;
    /// the token itself goes no further.
    fn forwarding(&self, headers: &HeaderMap) -> Forwarding {
        let token = headers.get(EXCHANGE_FIELD).map(HeaderValue::as_bytes);
        let mut running = self.calls.iter().filter_map(Weak::upgrade);
        let call =
            token.and_then(|token| running.find(|call| !call.is_over() && call.token.is(token)));
        let on_interim = call.map(|call| -> OnInterim {
            let interim = Arc::clone(&call.exchange.interim);
            Arc::new(move |status, mut fields| {
                let _close = connection_fields(&mut fields);
                let _only_a_courtesy = interim.relay(status, fields);
            })
        });
        Forwarding { keeps_host: self.names_hosts, on_interim }
    }
}

type Sent =
    Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outbound {
    /// All that are forbidden anyway but `Upgrade`, which a 426 must have (RFC 9110 §15.5.22); the
    /// host removes it from every other message.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        let names_hosts = self.names_hosts;
        Arc::new(move |name| {
            *name != UPGRADE
                && !(names_hosts && *name == HOST)
                && DEFAULT_FORBIDDEN_HEADERS.contains(name)
        })
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _transmitted: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let upstream = Arc::clone(&self.upstream);
        let grants = Arc::clone(&self.grants);
        let forwarding = self.forwarding(request.headers());
        request.extensions_mut().insert(forwarding);
        let timeouts = options.map_or_else(Timeouts::default, |options| Timeouts {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        });
        Box::new(async move {
            let request =
                request.map(|body| body.map_err(|error| error.to_string().into()).boxed_unsync());
            let response = upstream.send(&grants, request, timeouts).await.map_err(wasi_error)?;
            let response = response.map(|body| WasiBody::new(body.map_err(wasi_error)));
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, io))
        })
    }
}

/// The host's error as the guest's error code; the two lists have the same words.
fn wasi_error(error: UpstreamError) -> Error {
    use UpstreamError as From;
    match error {
        From::DnsTimeout => Error::DnsTimeout,
        From::Dns { reason } => Error::DnsError { rcode: Some(reason), info_code: None },
        From::DestinationNotFound => Error::DestinationNotFound,
        From::DestinationIpProhibited => Error::DestinationIpProhibited,
        From::DestinationIpUnroutable => Error::DestinationIpUnroutable,
        From::ConnectionRefused => Error::ConnectionRefused,
        From::ConnectionTerminated => Error::ConnectionTerminated,
        From::ConnectionTimeout => Error::ConnectionTimeout,
        From::ConnectionReadTimeout => Error::ConnectionReadTimeout,
        From::ConnectionLimitReached => Error::ConnectionLimitReached,
        From::TlsProtocol { .. } => Error::TlsProtocolError,
        From::TlsCertificate { .. } => Error::TlsCertificateError,
        From::TlsAlert { id, message } => {
            Error::TlsAlertReceived { alert_id: Some(id), alert_message: Some(message) }
        }
        From::RequestDenied { .. } => Error::HttpRequestDenied,
        From::RequestBodySize { size } => Error::HttpRequestBodySize(Some(size)),
        From::RequestMethodInvalid => Error::HttpRequestMethodInvalid,
        From::RequestUriInvalid => Error::HttpRequestUriInvalid,
        From::RequestUriTooLong => Error::HttpRequestUriTooLong,
        From::RequestHeaderSectionSize { size } => Error::HttpRequestHeaderSectionSize(Some(size)),
        From::ResponseIncomplete => Error::HttpResponseIncomplete,
        From::ResponseHeaderSectionSize => Error::HttpResponseHeaderSectionSize(None),
        From::ResponseTrailerSectionSize => Error::HttpResponseTrailerSectionSize(None),
        From::ResponseTimeout => Error::HttpResponseTimeout,
        From::UpgradeFailed => Error::HttpUpgradeFailed,
        From::Protocol { .. } => Error::HttpProtocolError,
        From::Configuration { .. } => Error::ConfigurationError,
        other => Error::InternalError(Some(other.to_string())),
    }
}
