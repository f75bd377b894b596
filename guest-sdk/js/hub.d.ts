import type { Data, PublishOptions, Resumption, Subscription } from './event.js';
import type { Head, Source } from './exchange.js';

export type * from './event.js';

/** An event of the history. */
export interface PastEvent {
  id: string;
  topic: string;
  publishedAt: Date;
  name?: string;
  data: string | Uint8Array;
}

/** Some of the history, oldest first. */
export interface Past {
  events: PastEvent[];
  resumption: Resumption;
  /** The id to go on from. */
  lastId: string;
}

/** A stream, socket or poll that follows something now. */
export interface Subscriber {
  id: string;
  topics: string[];
  attributes: Record<string, string>;
  since: Date;
}

/** Publishes; gives the event's id once it has its place in the order, on durable topics on disk. */
export function publish(topic: string, data?: Data, options?: PublishOptions): string;

/** The id of the latest event: what is read after this, and followed after that id, leaves no gap. */
export function position(): string;

/** What is kept of the events, oldest first; all of it where the options do not say from where on. */
export function history(options: Subscription & { limit?: number }): Past;

/** Waits until there are such events, at most `timeout` milliseconds (25,000). It blocks the instance. */
export function wait(options: Subscription & { timeout?: number }): Past;

/** A response that the host holds until there is an event, or the time is over. */
export function longPoll(
  source: Source,
  options: Subscription & Head & {
    /** Milliseconds, at most 300,000; by custom 25,000. */
    timeout?: number;
    /** The data of the first event, or a JSON array of that of all that are there. */
    body?: 'first' | 'json-array';
    /** The status when nothing came; by custom 204. */
    timeoutStatus?: number;
    /** A header field that gets the id of the last event of the answer. */
    idField?: string;
  },
): Response;

/** How many streams, sockets and polls would get a public event of this topic. */
export function subscriberCount(topic: string): number;

/** Who follows topics that begin so; at most 1,000. */
export function subscribers(within: string): Subscriber[];
