// WebSockets that the host holds: what a client sends comes to the export that `onWebSocket` makes.

import * as host from 'wharf:host/websocket@0.1.0';
import { asking, refused, WharfError } from './error.js';
import { exchangeOf, held, requestOf } from './exchange.js';
import {
  follows, fromPayload, list, pairs, toPayload, toPublication, toSelectors, toStart, toSubscription,
} from './event.js';

/** Refusals that are the client's, which the WebSocket's handler answers itself. */
const CLIENTS = new Set(['not-requested', 'bad-handshake', 'foreign-origin', 'unsupported']);

/** A response that accepts the WebSocket; where the client's request is none, what tells it so. */
export function websocket(source, options = {}) {
  try {
    return acceptWebSocket(source, options).response;
  } catch (thrown) {
    if (thrown instanceof WharfError && CLIENTS.has(thrown.code)) return thrown.getResponse();
    throw thrown;
  }
}

/** The same, and what is known of the socket; every refusal is thrown. */
export function acceptWebSocket(source, options = {}) {
  const exchange = exchangeOf(source);
  const { rate } = options;
  const wanted = {
    protocols: list(options.protocols),
    origins: options.origins === undefined ? undefined : list(options.origins),
    subscription: follows(options) ? toSubscription(options) : undefined,
    start: toStart(options),
    attributes: pairs(options.attributes),
    maxMessage: options.maxMessage,
    idleTimeoutMs: options.idleTimeout,
    pingIntervalMs: options.pingInterval,
    rate: rate === undefined ? undefined : { burst: rate.messages, ...rate },
    compression: options.compression ?? false,
    onOpen: list(options.onOpen).map(toPublication),
    onClose: list(options.onClose).map(toPublication),
  };
  let accepted;
  try {
    accepted = host.accept(exchange, wanted);
  } catch (thrown) {
    throw refusal(refused(thrown), requestOf(source), exchange);
  }
  const { protocol } = accepted;
  const socket = new Socket(accepted.socket, protocol, Object.fromEntries(wanted.attributes));
  return { response: held(accepted.token, { headers: options.headers }), socket, protocol };
}

/**
 * 426 names the protocol in `Upgrade`, which only HTTP/1.1 has; the engine lets nobody set that field, so
 * the host makes it of the version, which is also what a client with a wrong one is told.
 */
function refusal(error, request, exchange) {
  const upgrades = exchange.connection().protocol === 'http1';
  const version = request.headers.get('sec-websocket-version');
  const required = (message) =>
    new WharfError('not-requested', message, { 'sec-websocket-version': '13' });
  if (error.code === 'not-requested') return upgrades ? required() : error;
  if (error.code === 'bad-handshake' && upgrades && version !== null && version.trim() !== '13') {
    return required(error.message);
  }
  return error;
}

/** A WebSocket, by the id that names it. */
export class Socket {
  constructor(id, protocol, attributes = {}) {
    this.id = id;
    this.protocol = protocol;
    this.attributes = attributes;
  }

  /** Sends a message: a string is text, bytes are binary, everything else is JSON. */
  send(data) {
    asking(() => host.send(this.id, toPayload(data)));
  }

  /** Closes it, after what is queued. */
  close(code = 1000, reason = '') {
    asking(() => host.close(this.id, code, reason));
  }

  /** Follows further topics, from now on: a topic, several, or `{ topic, topics }`. */
  join(topics) {
    asking(() => host.join(this.id, toSelectors(topics)));
  }

  /** Follows these no longer. */
  leave(topics) {
    asking(() => host.leave(this.id, toSelectors(topics)));
  }
}

/** The export `websocket-events`: `export const websocketEvents = onWebSocket({ message, closed })`. */
export function onWebSocket({ message, closed }) {
  const from = ({ id, protocol, attributes }) =>
    new Socket(id, protocol, Object.fromEntries(attributes));
  return {
    message: (socket, payload) => message?.(from(socket), fromPayload(payload)),
    closed: (socket, code, reason) => closed?.(from(socket), code, reason),
  };
}
