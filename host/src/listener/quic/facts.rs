//! The TLS facts of a QUIC connection.
//!
//! quinn tells ALPN and server name, but not the cipher suite, and keeps the rustls session to
//! itself. Its sessions are wrapped here: the ServerHello that passes through on its way to the
//! client says which suite was chosen.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicServerConfig};
use quinn::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
    UnsupportedVersion,
};
use quinn::{Connection, ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

use crate::http::conn::TlsFacts;

/// What [`tls`] is made of.
struct Facts {
    handshake: Option<Box<HandshakeData>>,
    cipher: Option<u16>,
    early_data: bool,
}

/// Whether early data is taken on a connection, once its handshake data is there.
pub(super) fn takes_early_data(handshake_data: Box<dyn Any>) -> bool {
    handshake_data.downcast::<Facts>().is_ok_and(|facts| facts.early_data)
}

/// The crypto of a server whose connections know their facts.
///
/// # Errors
/// Where `tls` has no suite that QUIC's first packets need.
pub(super) fn server_config(
    tls: Arc<rustls::ServerConfig>,
) -> Result<Arc<dyn crypto::ServerConfig>, NoInitialCipherSuite> {
    Ok(Arc::new(Config(Arc::new(QuicServerConfig::try_from(tls)?))))
}

/// The facts of a connection that has shaken hands.
pub(super) fn tls(connection: &Connection) -> TlsFacts {
    let facts = connection.handshake_data().and_then(|data| data.downcast::<Facts>().ok());
    let early_data = facts.as_ref().is_some_and(|facts| facts.early_data);
    let (handshake, cipher) = facts.map_or((None, None), |facts| (facts.handshake, facts.cipher));
    let (alpn, sni) = handshake.map_or((None, None), |data| (data.protocol, data.server_name));
    TlsFacts {
        // QUIC knows no other (RFC 9001 §4.2).
        version: "TLSv1.3".to_owned(),
        cipher: cipher.map_or_else(|| "unknown".to_owned(), suite_name),
        alpn: alpn.map(|name| String::from_utf8_lossy(&name).into_owned()),
        sni,
        early_data,
    }
}

/// The IANA name of a TLS 1.3 suite (RFC 8446 §B.4).
fn suite_name(suite: u16) -> String {
    match suite {
        0x1301 => "TLS_AES_128_GCM_SHA256".to_owned(),
        0x1302 => "TLS_AES_256_GCM_SHA384".to_owned(),
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256".to_owned(),
        0x1304 => "TLS_AES_128_CCM_SHA256".to_owned(),
        0x1305 => "TLS_AES_128_CCM_8_SHA256".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

/// The suite in a handshake message, if that is a ServerHello (RFC 8446 §4.1.3).
fn chosen_suite(message: &[u8]) -> Option<u16> {
    const SERVER_HELLO: u8 = 2;
    // Type, length, version, random.
    const SESSION_ID: usize = 1 + 3 + 2 + 32;
    if message.first() != Some(&SERVER_HELLO) {
        return None;
    }
    let suite = SESSION_ID + 1 + usize::from(*message.get(SESSION_ID)?);
    let suite = message.get(suite..suite + 2)?;
    Some(u16::from_be_bytes([suite[0], suite[1]]))
}

struct Config(Arc<QuicServerConfig>);

impl crypto::ServerConfig for Config {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn Session> {
        let session = Arc::clone(&self.0).start_session(version, parameters);
        Box::new(Watched { session, cipher: None, early_data: AtomicBool::new(false) })
    }
}

struct Watched {
    session: Box<dyn Session>,
    cipher: Option<u16>,
    /// quinn has asked for the keys of early data, and there were some.
    early_data: AtomicBool,
}

impl Session for Watched {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let handshake = self.session.handshake_data()?.downcast().ok();
        let early_data = self.early_data.load(Ordering::Relaxed);
        Some(Box::new(Facts { handshake, cipher: self.cipher, early_data }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        let keys = self.session.early_crypto();
        self.early_data.store(keys.is_some(), Ordering::Relaxed);
        keys
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let before = buf.len();
        let keys = self.session.write_handshake(buf);
        if self.cipher.is_none() {
            self.cipher = chosen_suite(&buf[before..]);
        }
        keys
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}
