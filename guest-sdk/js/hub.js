// Topics and their events: published by some, followed by others, with a history to go on from.

import * as host from 'wharf:host/hub@0.1.0';
import { asking } from './error.js';
import { exchangeOf, held } from './exchange.js';
import { fromPayload, toPublication, toStart, toSubscription } from './event.js';

/** Publishes; gives the event's id once it has its place in the order, on durable topics on disk. */
export function publish(topic, data, options) {
  return asking(() => host.publish(toPublication({ ...options, topic, data })));
}

/** The id of the latest event: what is read after this, and followed after that id, leaves no gap. */
export function position() {
  return host.position();
}

/** What is kept of the events, oldest first; all of it where the options do not say from where on. */
export function history(options = {}) {
  const start = toStart(options, { tag: 'earliest' });
  return fromPast(asking(() => host.history(toSubscription(options), start, options.limit)));
}

/** Waits until there are such events, at most `timeout` milliseconds; empty where none came. */
export function wait(options) {
  const { timeout = 25_000 } = options;
  return fromPast(asking(() => host.wait(toSubscription(options), toStart(options), timeout)));
}

/** A response that the host holds until there is an event, or the time is over. */
export function longPoll(source, options) {
  const poll = {
    subscription: toSubscription(options),
    start: toStart(options),
    timeoutMs: options.timeout ?? 25_000,
    body: options.body ?? 'first',
    timeoutStatus: options.timeoutStatus ?? 204,
    idField: options.idField,
  };
  return held(asking(() => host.waitReply(exchangeOf(source), poll)), options);
}

/** How many streams, sockets and polls would get a public event of this topic. */
export function subscriberCount(topic) {
  return Number(asking(() => host.subscriberCount(topic)));
}

/** Who follows topics that begin so; at most 1,000. */
export function subscribers(within) {
  return asking(() => host.subscribers(within)).map((subscriber) => ({
    id: subscriber.id,
    topics: subscriber.subscription.topics.map((selector) => selector.val),
    attributes: Object.fromEntries(subscriber.attributes),
    since: new Date(Number(subscriber.since)),
  }));
}

function fromPast(past) {
  const events = past.events.map(({ id, topic, publishedAt, event }) => ({
    id,
    topic,
    publishedAt: new Date(Number(publishedAt)),
    name: event.name,
    data: fromPayload(event.data),
  }));
  return { events, resumption: past.resumption, lastId: past.lastId };
}
