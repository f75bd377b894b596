import type { Data, Event, EventOptions, Heartbeat, Publication, Resumption, Subscription } from './event.js';
import type { Head, Source } from './exchange.js';

/** How a stream is. */
export interface StreamOptions extends Subscription, Head {
  /** Sent before all else. */
  first?: Event | Event[];
  /** By custom a comment every 15 seconds. */
  heartbeat?: Heartbeat;
  /** How long clients wait before they come back, in milliseconds. */
  retry?: number;
  /** What becomes of a client that reads too slowly; by custom it is disconnected, and comes back. */
  lag?: 'disconnect' | 'drop-oldest';
  /** The stream ends after an event with one of these names. */
  endsWith?: string | string[];
  /** The stream ends after so many milliseconds. */
  maxAge?: number;
  /** What `subscribers` tells of it. */
  attributes?: Record<string, string>;
  /** Published when the stream begins. */
  onOpen?: Publication | Publication[];
  /** Published when it has ended, however it did. */
  onClose?: Publication | Publication[];
}

/** A stream that begins once its response was given back. */
export interface EventStream {
  response: Response;
  /** Names it in `subscribers` and as `except`. */
  id: string;
  resumption: Resumption;
  /** The id of the event before the first that it will get; empty where that is not known. */
  lastId: string;
}

/** A response that is an event stream, fed by topics. */
export function sse(source: Source, options: StreamOptions): Response;

/** The same, and what is known of the stream. */
export function openStream(source: Source, options: StreamOptions): EventStream;

/** The plugin's end of a stream. */
export interface Emitter {
  /** Sends an event; blocks while 64 events, or 256 KiB, wait for the client. */
  send(data: Data, options?: EventOptions): void;
  comment(text: string): void;
  /** Whether the client has left or the server is draining. */
  readonly closed: boolean;
  /** Ends the stream; so does the end of `feed`. */
  close(): void;
}

/**
 * A response that is an event stream, fed by `feed` while it runs. The source has to be the fetch event,
 * or a Hono context that was made with it: `app.fetch(event.request, {}, event)`.
 */
export function emitter(
  source: Source,
  feed: (events: Emitter) => void | Promise<void>,
  options?: Head & { heartbeat?: Heartbeat; retry?: number },
): Response;
