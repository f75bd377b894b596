// Node's own HTTP/2 client: one request, printed as JSON with its interim heads, pushes and trailers.
//
//     http2.mjs ORIGIN PATH [--post TEXT] [--no-push] [HEADER=VALUE ...]
import http2 from 'node:http2';

const [origin, path, ...rest] = process.argv.slice(2);
const post = rest.indexOf('--post');
const text = post < 0 ? null : rest.splice(post, 2)[1];
const push = !rest.includes('--no-push');
const fields = Object.fromEntries(
  rest.filter((word) => !word.startsWith('--')).map((word) => word.split(/=(.*)/s).slice(0, 2)),
);

const session = http2.connect(origin, {
  rejectUnauthorized: false,
  settings: { enablePush: push },
});
const began = Date.now();
const result = { interim: [], pushes: [], body: '', trailers: null, error: null };
const open = new Set();

function read(stream, into) {
  open.add(stream);
  stream.setEncoding('latin1');
  stream.on('data', (chunk) => { into.body += chunk; });
  stream.on('error', (error) => { into.error ??= String(error); });
  stream.on('close', () => {
    open.delete(stream);
    // Pushed streams may be promised until the request's own stream is over.
    if (open.size === 0) session.close();
  });
}

session.on('error', (error) => { result.error ??= String(error); });
session.on('stream', (stream, request) => {
  const pushed = { request, response: null, body: '', error: null };
  result.pushes.push(pushed);
  stream.on('push', (response) => { pushed.response = response; });
  read(stream, pushed);
});

const request = session.request(
  { ':method': text === null ? 'GET' : 'POST', ':path': path, ...fields },
  { endStream: text === null },
);
request.on('headers', (headers) => result.interim.push({ ms: Date.now() - began, headers }));
request.on('response', (headers) => { result.ms = Date.now() - began; result.headers = headers; });
request.on('trailers', (headers) => { result.trailers = headers; });
read(request, result);
if (text !== null) request.end(text);

session.on('close', () => process.stdout.write(JSON.stringify(result)));
