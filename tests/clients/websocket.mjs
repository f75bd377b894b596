// WebSocket clients of Node: the package `ws`, undici (which is the browser's API), and `ws` on a stream of
// Node's own HTTP/2 (RFC 8441). Sends messages that are to come back, closes with 4321; prints as JSON
// what it saw.
//
//     websocket.mjs ws|undici|http2 URL [SUBPROTOCOL ...]
import http2 from 'node:http2';

import { WebSocket as Undici } from 'undici';
import WebSocket from 'ws';

const [client, url, ...protocols] = process.argv.slice(2);
const texts = ['', 'grüße 🦀', 'again and '.repeat(20_000)];
const bytes = new Uint8Array(70_000).map((_, at) => at * at);

/** A `ws` on an HTTP/2 stream: its own handshake is HTTP/1.1's, so what it does after it is called. */
async function overHttp2() {
  const target = new URL(url);
  const session = http2.connect(target.origin, { rejectUnauthorized: false });
  await new Promise((resolve, reject) => {
    session.once('error', reject);
    session.once('remoteSettings', resolve);
  });
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': target.pathname + target.search,
    'sec-websocket-version': '13',
    ...(protocols.length > 0 && { 'sec-websocket-protocol': protocols.join(', ') }),
  }, { endStream: false });
  const headers = await new Promise((resolve, reject) => {
    stream.once('error', reject);
    stream.once('response', resolve);
  });
  if (headers[':status'] !== 200) throw new Error(`status ${headers[':status']}`);
  const socket = new WebSocket(null);
  socket._isServer = false;
  socket._protocol = headers['sec-websocket-protocol'] ?? '';
  stream.setNoDelay = () => {};
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 1 << 24, skipUTF8Validation: false });
  socket.once('close', () => session.close());
  return socket;
}

async function open() {
  switch (client) {
    case 'ws': return new WebSocket(url, protocols, { perMessageDeflate: true });
    case 'undici': return new Undici(url, protocols);
    case 'http2': return overHttp2();
    default: throw new Error(`no client ${client}`);
  }
}

function same(sent, got) {
  return typeof sent === 'string' ? sent === got : Buffer.compare(sent, Buffer.from(got)) === 0;
}

const result = { protocol: null, extensions: null, same: [], code: null, reason: null, error: null };
const socket = await open();
socket.binaryType = 'arraybuffer';
socket.addEventListener('error', (event) => { result.error ??= String(event.message ?? event.error); });
const messages = [...texts, bytes];
const sent = () => {
  result.protocol = socket.protocol;
  result.extensions = socket.extensions;
  messages.forEach((message) => socket.send(message));
};
if (socket.readyState === 1) sent();
else socket.addEventListener('open', sent);
socket.addEventListener('message', ({ data }) => {
  result.same.push(same(messages[result.same.length], data));
  if (result.same.length === messages.length) socket.close(4321, 'done');
});
socket.addEventListener('close', ({ code, reason }) => {
  Object.assign(result, { code, reason });
  process.stdout.write(JSON.stringify(result));
});
