// WebSocket clients of Node: the package `ws`, and undici, which is the browser's API. Sends messages that are
// to come back, closes with 4321; prints as JSON what it saw.
//
//     websocket.mjs ws|undici URL [SUBPROTOCOL ...]
import { WebSocket as Undici } from 'undici';
import WebSocket from 'ws';

const [client, url, ...protocols] = process.argv.slice(2);
const texts = ['', 'grüße 🦀', 'again and '.repeat(20_000)];
const bytes = new Uint8Array(70_000).map((_, at) => at * at);

function open() {
  switch (client) {
    case 'ws': return new WebSocket(url, protocols, { perMessageDeflate: true });
    case 'undici': return new Undici(url, protocols);
    default: throw new Error(`no client ${client}`);
  }
}

function same(sent, got) {
  return typeof sent === 'string' ? sent === got : Buffer.compare(sent, Buffer.from(got)) === 0;
}

const result = { protocol: null, extensions: null, same: [], code: null, reason: null, error: null };
const socket = open();
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
