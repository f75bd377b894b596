// Events and subscriptions as a plugin writes them, made into those of the interfaces.

import { WharfError } from './error.js';

/** A string is text, bytes are binary, everything else is JSON. */
export function toPayload(data) {
  if (typeof data === 'string') return { tag: 'text', val: data };
  if (data === undefined) return { tag: 'text', val: '' };
  if (data instanceof ArrayBuffer) return { tag: 'binary', val: new Uint8Array(data) };
  if (ArrayBuffer.isView(data)) {
    return { tag: 'binary', val: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  }
  return { tag: 'text', val: JSON.stringify(data) };
}

export function fromPayload(payload) {
  return payload.val;
}

/** `{ data, name, id, retry, fields }`. */
export function toEvent({ data, name, id, retry, fields }) {
  return { id, name, data: toPayload(data), retry, fields: pairs(fields) };
}

/** An event, and `{ topic, also, private, except }`. */
export function toPublication(given) {
  return {
    topic: given.topic,
    alternates: list(given.also),
    event: toEvent(given),
    private: given.private ?? false,
    except: given.except,
  };
}

/** `{ topic, topics, uriTemplates, urlPatterns, private, within }`. */
export function toSubscription(options) {
  const { private: privately, within } = options;
  return {
    topics: toSelectors(options),
    privateTopics: privately === undefined ? [] : toSelectors(privately),
    within,
  };
}

export function follows(options) {
  return toSelectors(options).length > 0;
}

/** One topic as an argument of `join` and `leave`, or `{ topic, topics, … }`. */
export function toSelectors(given) {
  if (typeof given === 'string') return [exact(given)];
  if (Array.isArray(given)) return given.map(exact);
  return [
    ...list(given.topic).map(exact),
    ...list(given.topics).map((val) => ({ tag: 'pattern', val })),
    ...list(given.uriTemplates).map((val) => ({ tag: 'uri-template', val })),
    ...list(given.urlPatterns).map((val) => ({ tag: 'url-pattern', val })),
  ];
}

// A name that a client sent never becomes a pattern, nor does it look as if it were one.
function exact(val) {
  if (val.split('/').includes('*')) {
    throw new WharfError('invalid', 'a topic with a segment `*` is followed by `topics`, as a pattern');
  }
  return { tag: 'exact', val };
}

/** `{ resume, after, earliest }`. */
export function toStart({ resume, after, earliest }, otherwise = { tag: 'now' }) {
  if (after !== undefined) return { tag: 'after', val: after };
  if (resume) return { tag: 'request' };
  if (earliest) return { tag: 'earliest' };
  return otherwise;
}

/** Milliseconds between comments, or `{ every, name, data }`. */
export function toHeartbeat(given) {
  if (given === undefined) return undefined;
  if (typeof given === 'number') return { everyMs: given, kind: { tag: 'comment' } };
  const { every, ...event } = given;
  const kind = Object.keys(event).length === 0
    ? { tag: 'comment' }
    : { tag: 'event', val: toEvent(event) };
  return { everyMs: every, kind };
}

/** An object, or pairs already, as pairs of strings. */
export function pairs(given = []) {
  const entries = Array.isArray(given) ? given : Object.entries(given);
  return entries.map(([name, value]) => [name, String(value)]);
}

/** None, one or several as an array. */
export function list(given) {
  if (given === undefined) return [];
  return Array.isArray(given) ? given : [given];
}
