//! The servers that hold clients, each with what to ask of it: wharf, nchan in nginx, Pushpin.
//!
//! All are told to say that they are alive every 15 seconds, which is wharf's default.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use super::subscribers::Subscribers;
use crate::machine::{self, Place};
use crate::servers::{Server, guest};
use crate::{Options, scenarios};

/// Where Debian's package has it.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// A server and how it is asked.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    kind: Kind,
    /// Where it takes publications.
    publish_at: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Wharf,
    Nchan,
    Pushpin,
}

const WHARF: &str = "[log]\naccess = \"off\"\n[limits]\nconnections = 20000\n\
    connections-per-address = 20000\n";
const PLUGIN: &str = "[capabilities]\nhub = { publish = [\"load\"], subscribe = [\"load\"] }\n";

impl Peer {
    /// Wharf with the guests `p3_realtime` and `p3_websocket`.
    pub(crate) fn wharf(options: &Options) -> Result<Self> {
        let (streams, sockets) = (guest(options, "p3_realtime")?, guest(options, "p3_websocket")?);
        let place = scenarios::places(options).0;
        let plugins: [(&str, &[u8], &str); 2] =
            [("load", &streams, PLUGIN), ("sockets", &sockets, PLUGIN)];
        let server = Server::wharf_with(options, place, &plugins, WHARF)?;
        let publish_at = server.http.clone();
        Ok(Self { name: "wharf", server, kind: Kind::Wharf, publish_at })
    }

    /// Those of the others that are installed, and what is missing.
    pub(crate) fn others(options: &Options) -> (Vec<Self>, Vec<String>) {
        let place = scenarios::places(options).0;
        let (mut peers, mut missing) = (Vec::new(), Vec::new());
        for (name, peer) in [("nchan", Self::nchan(place)), ("pushpin", Self::pushpin(place))] {
            match peer {
                Ok(peer) => peers.push(peer),
                Err(error) => missing.push(format!("{name}: {error:#}")),
            }
        }
        (peers, missing)
    }

    /// One nginx worker.
    fn nchan(place: Place) -> Result<Self> {
        ensure!(
            machine::has("nginx") && Path::new(NCHAN).exists(),
            "libnginx-mod-nchan is missing"
        );
        let dir = tempfile::tempdir()?;
        let http = free_address()?;
        let here = dir.path().display();
        let config = format!(
            "load_module {NCHAN};\n\
             daemon off; master_process off; worker_processes 1; pid {here}/nginx.pid;\n\
             error_log {here}/error.log;\n\
             events {{ worker_connections 16000; }}\n\
             http {{\n\
               access_log off; nchan_shared_memory_size 128M; keepalive_requests 1000000;\n\
               client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
               fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
               scgi_temp_path {here}/scgi;\n\
               server {{\n\
                 listen {http} backlog=4096;\n\
                 location = /sub {{\n\
                   nchan_subscriber; nchan_channel_id load; nchan_subscriber_timeout 0;\n\
                   nchan_subscriber_first_message newest; nchan_eventsource_ping_interval 15;\n\
                 }}\n\
                 location = /pub {{\n\
                   nchan_publisher; nchan_channel_id load; nchan_message_buffer_length 1000;\n\
                 }}\n\
                 location = /both {{\n\
                   nchan_pubsub; nchan_channel_id load; nchan_subscriber_first_message newest;\n\
                 }}\n\
               }}\n\
             }}\n"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = machine::placed("nginx", place);
        command.arg("-p").arg(dir.path()).arg("-c").arg(file);
        let server = Server::other(command, dir, http.clone())?;
        Ok(Self { name: "nchan", server, kind: Kind::Nchan, publish_at: http })
    }

    /// Pushpin with its parts as packaged, before an origin that lets it hold every request.
    fn pushpin(place: Place) -> Result<Self> {
        ensure!(machine::has("pushpin"), "pushpin is missing");
        let dir = tempfile::tempdir()?;
        let here = dir.path().to_path_buf();
        let origin = TcpListener::bind("127.0.0.1:0")?;
        fs::write(here.join("routes"), format!("* {}\n", origin.local_addr()?))?;
        std::thread::spawn(move || hold_everything(&origin));
        let http = free_address()?;
        let publish_at = free_address()?;
        let publish_port = publish_at.rsplit(':').next().unwrap_or_default();
        let here = here.display();
        let config = format!(
            "[global]\ninclude={{libdir}}/internal.conf\nrundir={here}\nipc_prefix=p-\n\
             port_offset=0\nstats_connection_ttl=120\n\
             [runner]\nservices=condure,zurl,pushpin-proxy,pushpin-handler\nhttp_port={http}\n\
             logdir={here}\nlog_level=1\nclient_buffer_size=8192\nclient_maxconn=20000\n\
             condure_bin=condure\nzurl_bin=zurl\n\
             [proxy]\nroutesfile={here}/routes\nsig_key=none\nupdates_check=off\n\
             zurl_out_specs=ipc://{here}/p-zurl-in\n\
             zurl_out_stream_specs=ipc://{here}/p-zurl-in-stream\n\
             zurl_in_specs=ipc://{here}/p-zurl-out\n\
             [handler]\npush_in_spec=ipc://{here}/push\npush_in_sub_specs=ipc://{here}/sub\n\
             push_in_http_addr=127.0.0.1\npush_in_http_port={publish_port}\n\
             command_spec=ipc://{here}/command\nmessage_rate=1000000\nmessage_hwm=1000000\n\
             message_wait=5000\nmessage_block_size=\nstats_spec=ipc://{here}/stats\n"
        );
        let file = dir.path().join("pushpin.conf");
        fs::write(&file, config)?;
        let mut command = machine::placed("pushpin", place);
        command.arg(format!("--config={}", file.display()));
        let server = Server::other(command, dir, http)?;
        Ok(Self { name: "pushpin", server, kind: Kind::Pushpin, publish_at })
    }

    /// The request of a subscriber.
    pub(crate) fn subscription(&self) -> Vec<u8> {
        let path = match self.kind {
            Kind::Wharf => "/load/events",
            Kind::Nchan => "/sub",
            Kind::Pushpin => "/",
        };
        format!("GET {path} HTTP/1.1\r\nHost: load\r\nAccept: text/event-stream\r\n\r\n").into()
    }

    /// The request of a WebSocket; `None` where the server has none without an origin of its own.
    pub(crate) fn upgrade(&self) -> Option<Vec<u8>> {
        let path = match self.kind {
            Kind::Wharf => "/sockets/ws?topic=load&publish=load",
            Kind::Nchan => "/both",
            Kind::Pushpin => return None,
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: load\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Some(head.into())
    }

    /// Clients that follow the topic.
    pub(crate) fn subscribers(&self, count: usize) -> Result<Subscribers> {
        let mut subscribers = Subscribers::open(&self.server.http, &self.subscription(), count)?;
        subscribers.publish_at(&self.publish_at)?;
        Ok(subscribers)
    }

    /// The request that publishes this.
    pub(crate) fn publication(&self, data: &str) -> Vec<u8> {
        self.publications(data, 1).unwrap_or_default()
    }

    /// The one request that publishes this so many times; `None` where it has none.
    pub(crate) fn publications(&self, data: &str, times: usize) -> Option<Vec<u8>> {
        let (path, body) = match self.kind {
            Kind::Wharf => (format!("/load/publish?times={times}"), data.to_owned()),
            Kind::Nchan if times == 1 => ("/pub".to_owned(), data.to_owned()),
            Kind::Nchan => return None,
            Kind::Pushpin => {
                let content = format!("data: {data}\n\n");
                let item = json!({
                    "channel": "load",
                    "formats": { "http-stream": { "content": content } },
                });
                ("/publish/".to_owned(), json!({ "items": vec![item; times] }).to_string())
            }
        };
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: load\r\nContent-Length: {length}\r\n\r\n");
        Some([head.as_bytes(), body.as_bytes()].concat())
    }
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Pushpin's origin: every request is to be held, and fed by the channel.
fn hold_everything(origin: &TcpListener) {
    for stream in origin.incoming() {
        let Ok(mut stream) = stream else { return };
        std::thread::spawn(move || {
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                head.extend_from_slice(&buffer[..read]);
                while let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                    head.drain(..at + 4);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Grip-Hold: stream\r\nGrip-Channel: load\r\n\
                        Grip-Keep-Alive: :\\n\\n; format=cstring; timeout=15\r\n\
                        Content-Length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
    }
}
