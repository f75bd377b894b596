// The JavaScript sample plugin: what the host knows of a connection, an echo that streams, events that
// the host hands on, and a WebSocket.
//
// Hono routes, as on any server that speaks fetch. `esbuild` bundles this file, `componentize-js` makes
// a component of the bundle and the engine StarlingMonkey. Paths arrive whole, with the `/js` under which
// the plugin is mounted.

import { Hono } from 'hono';
import { methodNotAllowed } from 'hono/method-not-allowed';
import {
  cacheControl,
  conditional,
  emitter,
  etag,
  exchange,
  onWebSocket,
  publish,
  purgeKey,
  sse,
  websocket,
} from '../../guest-sdk/js/index.js';

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>hello-js</title>
<h1>Hello from JavaScript</h1>
<p>Hono and StarlingMonkey, compiled to WebAssembly, answer this page.</p>
<ul>
<li><a href="/js/protocol">GET /js/protocol</a>: what the server knows of your connection
<li>POST /js/echo: the request's body, sent back as it arrives
<li><a href="/js/events">GET /js/events</a>: what is posted there, as it comes
<li><a href="/js/clock">GET /js/clock</a>: the time, each second
<li><a href="/js/cached">GET /js/cached</a>: the time at which it was first asked for; DELETE purges it
<li>GET /js/ws: a WebSocket that sends back what it gets
</ul>
</html>
`;

const PROTOCOLS = { http1: 'HTTP/1.1', http2: 'HTTP/2', http3: 'HTTP/3' };

const app = new Hono();

app.use(
  methodNotAllowed({
    app,
    onMethodNotAllowed: (_, methods) =>
      problem(405, 'Method Not Allowed', { allow: methods.join(', ') }),
  }),
);
app.notFound(() => problem(404, 'Not Found'));

app.on('GET', ['/js', '/js/'], (c) => c.html(PAGE));

app.get('/js/protocol', (c) => {
  c.header('cache-control', 'no-store');
  return c.json(factsOf(c.req));
});

// The body is not read here: the engine passes on what arrives.
app.post('/js/echo', (c) => {
  const type = c.req.header('content-type');
  return c.body(c.req.raw.body, 200, type === undefined ? {} : { 'content-type': type });
});

// The host holds these connections: nothing of this app runs while nothing happens.
app.get('/js/events', (c) => sse(c, { topics: 'hello/*', resume: true, retry: 1000 }));

app.post('/js/events', async (c) => {
  const id = publish('hello/js', await c.req.text(), { name: 'greeting' });
  return c.json({ id }, 201);
});

// This one the app feeds itself; its instance lives for as long.
app.get('/js/clock', (c) =>
  emitter(c, async (events) => {
    while (!events.closed) {
      events.send({ now: new Date() }, { name: 'tick' });
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }),
);

// The server's cache answers the next ones, for a minute or until it is purged.
app.get('/js/cached', (c) => {
  const body = JSON.stringify({ now: new Date() });
  const response = c.body(body, 200, {
    'content-type': 'application/json',
    'cache-control': cacheControl({ public: true, maxAge: 60 }),
    'surrogate-key': 'js-clock',
  });
  return conditional(c, response, { etag: etag(body) });
});

app.delete('/js/cached', (c) => c.json({ purged: purgeKey('js-clock') }));

app.get('/js/ws', (c) => websocket(c, { compression: true }));

export const websocketEvents = onWebSocket({
  message: (socket, data) => socket.send(data),
});

addEventListener('fetch', (event) => event.respondWith(app.fetch(event.request, {}, event)));

/** The facts of one exchange. Those of TLS are null on a cleartext connection. */
function factsOf(request) {
  const facts = {
    protocol: null,
    tls_version: null,
    cipher: null,
    alpn: null,
    sni: null,
    peer: null,
    connection_id: null,
    requests: null,
    early_data: false,
    request_id: null,
    route: null,
    language: 'JavaScript',
  };
  const current = exchange(request);
  if (current === null) return facts;
  const connection = current.connection();
  facts.protocol = PROTOCOLS[connection.protocol];
  facts.peer = connection.peer;
  // JSON has no BigInt.
  facts.connection_id = Number(connection.id);
  facts.requests = Number(connection.requests);
  facts.request_id = current.requestId();
  facts.route = current.route();
  if (connection.tls !== undefined) {
    facts.tls_version = connection.tls.version;
    facts.cipher = connection.tls.cipher;
    facts.alpn = connection.tls.alpn ?? null;
    facts.sni = connection.tls.sni ?? null;
    facts.early_data = connection.tls.earlyData;
  }
  return facts;
}

/** An error of RFC 9457, which no cache keeps. */
function problem(status, title, headers) {
  return new Response(JSON.stringify({ title, status }), {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      ...headers,
    },
  });
}
