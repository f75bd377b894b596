// The JavaScript sample plugin: what the host knows of a connection, and an echo that streams.
//
// Hono routes, as on any server that speaks fetch. `esbuild` bundles this file, `componentize-js` makes
// a component of the bundle and the engine StarlingMonkey. Paths arrive whole, with the `/js` under which
// the plugin is mounted.

import { Hono } from 'hono';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { open } from 'wharf:host/exchange@0.1.0';

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>hello-js</title>
<h1>Hello from JavaScript</h1>
<p>Hono and StarlingMonkey, compiled to WebAssembly, answer this page.</p>
<ul>
<li><a href="/js/protocol">GET /js/protocol</a>: what the server knows of your connection
<li>POST /js/echo: the request's body, sent back as it arrives
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

addEventListener('fetch', (event) => event.respondWith(app.fetch(event.request)));

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
  const exchange = exchangeOf(request);
  if (exchange === null) return facts;
  const connection = exchange.connection();
  facts.protocol = PROTOCOLS[connection.protocol];
  facts.peer = connection.peer;
  // JSON has no BigInt.
  facts.connection_id = Number(connection.id);
  facts.requests = Number(connection.requests);
  facts.request_id = exchange.requestId();
  facts.route = exchange.route();
  if (connection.tls !== undefined) {
    facts.tls_version = connection.tls.version;
    facts.cipher = connection.tls.cipher;
    facts.alpn = connection.tls.alpn ?? null;
    facts.sni = connection.tls.sni ?? null;
    facts.early_data = connection.tls.earlyData;
  }
  return facts;
}

/** The exchange of a request, or null where the host named none that is still alive. */
function exchangeOf(request) {
  const token = request.header('wharf-exchange');
  if (token === undefined) return null;
  try {
    return open(token);
  } catch {
    return null;
  }
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
