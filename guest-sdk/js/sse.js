// Event streams that the host holds: they cost no instance, and outlive this one.

import * as host from 'wharf:host/sse@0.1.0';
import { asking } from './error.js';
import { exchangeOf, held } from './exchange.js';
import { list, pairs, toEvent, toHeartbeat, toPublication, toStart, toSubscription } from './event.js';

/** A response that is an event stream, fed by topics. */
export function sse(source, options) {
  return openStream(source, options).response;
}

/** The same, and what is known of the stream. */
export function openStream(source, options) {
  const begun = asking(() =>
    host.reply(exchangeOf(source), {
      subscription: toSubscription(options),
      start: toStart(options),
      first: list(options.first).map(toEvent),
      heartbeat: toHeartbeat(options.heartbeat),
      retry: options.retry,
      lag: options.lag ?? 'disconnect',
      endsWith: list(options.endsWith),
      maxAgeMs: options.maxAge === undefined ? undefined : BigInt(options.maxAge),
      attributes: pairs(options.attributes),
      onOpen: list(options.onOpen).map(toPublication),
      onClose: list(options.onClose).map(toPublication),
    }),
  );
  const { token, id, resumption, lastId } = begun;
  return { response: held(token, options), id, resumption, lastId };
}

/**
 * A response that is an event stream, fed by `feed` while it runs. The instance lives for as long: it is
 * the fetch event that keeps it, so the source has to be one, or a Hono context that was made with it
 * (`app.fetch(event.request, {}, event)`).
 */
export function emitter(source, feed, options = {}) {
  const waiting = eventOf(source);
  const [token, end] = asking(() =>
    host.emit(exchangeOf(source), {
      heartbeat: toHeartbeat(options.heartbeat),
      retry: options.retry,
    }),
  );
  const events = new Emitter(end);
  const work = (async () => {
    try {
      await feed(events);
    } catch (thrown) {
      if (thrown?.code !== 'closed') console.error('event stream broken off:', thrown);
    } finally {
      events.close();
    }
  })();
  waiting.waitUntil(work);
  return held(token, options);
}

/** What keeps an instance alive. */
function eventOf(source) {
  if (typeof source.waitUntil === 'function') return source;
  let waiting;
  try {
    waiting = source.executionCtx;
  } catch {
    // Hono throws where the app was called without one.
  }
  if (typeof waiting?.waitUntil !== 'function') {
    throw new TypeError('an emitter needs the fetch event: app.fetch(event.request, {}, event)');
  }
  return waiting;
}

/** The plugin's end of a stream. */
class Emitter {
  #end;

  constructor(end) {
    this.#end = end;
  }

  /** Sends an event; waits while 64 events, or 256 KiB, wait for the client. */
  send(data, options) {
    const event = toEvent({ ...options, data });
    asking(() => this.#end.send(event));
  }

  comment(text) {
    asking(() => this.#end.comment(text));
  }

  get closed() {
    return this.#end === null || this.#end.closed();
  }

  close() {
    this.#end?.[Symbol.dispose ?? Symbol.for('dispose')]?.();
    this.#end = null;
  }
}
