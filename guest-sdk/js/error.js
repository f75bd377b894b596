// What the host refuses, as an error that knows its answer.

const STATUSES = {
  'not-granted': [403, 'Forbidden'],
  invalid: [400, 'Bad Request'],
  'too-large': [413, 'Content Too Large'],
  'too-many': [503, 'Service Unavailable'],
  busy: [503, 'Service Unavailable'],
  'not-requested': [426, 'Upgrade Required'],
  'bad-handshake': [400, 'Bad Request'],
  'foreign-origin': [403, 'Forbidden'],
  unsupported: [501, 'Not Implemented'],
  'not-acceptable': [406, 'Not Acceptable'],
  'precondition-failed': [412, 'Precondition Failed'],
  'precondition-required': [428, 'Precondition Required'],
};

const MESSAGES = {
  'not-granted': 'the manifest does not name the topic under [capabilities] hub',
  'too-large': 'the event is too large',
  'too-many': 'the plugin has too many subscriptions',
  'too-late': 'the exchange is over',
  busy: 'too much is being published',
  'not-requested': 'this is for clients that ask for a WebSocket',
  'foreign-origin': 'pages of this origin may not open this WebSocket',
  unsupported: 'no WebSocket can be had over this transport',
  gone: 'there is no such WebSocket any more',
  full: 'too much waits for the client of the WebSocket',
  refused: 'that is wrong, or not granted',
  closed: 'the client has left',
  'precondition-failed': 'it is not the version that the request is about',
  'precondition-required': 'name the version that is to be changed: If-Match with its ETag',
  'no-host': 'no Wharf host is here',
};

/** What the host refused, and the answer that it makes: Hono gives it by itself. */
export class WharfError extends Error {
  /** @param {string} code @param {string} [message] */
  constructor(code, message, headers = {}) {
    super(message ?? MESSAGES[code] ?? code);
    this.name = 'WharfError';
    this.code = code;
    const [status, title] = STATUSES[code] ?? [500, 'Internal Server Error'];
    this.status = status;
    this.title = title;
    this.headers = status === 503 ? { 'retry-after': '1', ...headers } : headers;
  }

  /** The answer, a problem document (RFC 9457). What is the server's own fault it does not tell. */
  getResponse() {
    const problem = { title: this.title, status: this.status };
    if (this.status < 500 && this.code !== 'not-granted') problem.detail = this.message;
    return new Response(JSON.stringify(problem), {
      status: this.status,
      headers: {
        'content-type': 'application/problem+json',
        'cache-control': 'no-store',
        ...this.headers,
      },
    });
  }
}

/** What `call` gives; what the host refuses is thrown as a `WharfError`. */
export function asking(call) {
  try {
    return call();
  } catch (thrown) {
    throw refused(thrown);
  }
}

/** A thrown error of the bindings as a `WharfError`; any other as it is. */
export function refused(thrown) {
  if (thrown instanceof WharfError) return thrown;
  const payload = thrown?.payload ?? thrown;
  if (typeof payload === 'string') return new WharfError(payload);
  if (typeof payload?.tag === 'string') return new WharfError(payload.tag, payload.val);
  return thrown;
}
