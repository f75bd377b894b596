// What the shared cache in front of the plugin may keep, and what goes with it.

import * as host from 'wharf:host/cache@0.1.0';
import { asking, WharfError } from './error.js';
import { requestOf } from './exchange.js';

const FLAGS = ['public', 'noStore', 'noTransform', 'mustRevalidate', 'proxyRevalidate', 'mustUnderstand', 'immutable'];

/** The `Cache-Control` that a name stands for. */
export function policy(name) {
  return asking(() => host.policy(name));
}

/** All names, and what they stand for. */
export function policies() {
  return Object.fromEntries(host.policies());
}

/** A `Cache-Control` made of its directives; times are seconds. */
export function cacheControl(directives) {
  const flags = Object.fromEntries(FLAGS.map((name) => [name, directives[name] === true]));
  const fields = (given) => (Array.isArray(given) ? given : []);
  const isSet = (given) => given === true || Array.isArray(given);
  return asking(() =>
    host.cacheControl({
      flags: { ...flags, private: isSet(directives.private), noCache: isSet(directives.noCache) },
      maxAge: directives.maxAge,
      sMaxage: directives.sMaxage,
      staleWhileRevalidate: directives.staleWhileRevalidate,
      staleIfError: directives.staleIfError,
      privateFields: fields(directives.private),
      noCacheFields: fields(directives.noCache),
    }),
  );
}

/** The `ETag` of a text or of bytes. */
export function etag(content, { weak = false } = {}) {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : new Uint8Array(content);
  return asking(() => host.etagOf(bytes, weak));
}

/** The `ETag` of a version that the plugin counts or names itself. */
export function etagOfVersion(version, { weak = false } = {}) {
  return host.etagOfVersion(String(version), weak);
}

/** What the conditions of a request come to; `current` is null where there is nothing yet. */
export function evaluate(source, current, { required = false } = {}) {
  const request = requestOf(source);
  const fields = [...request.headers].filter(([name]) => name.startsWith('if-') || name === 'range');
  const modified = current?.lastModified;
  const validators = current
    ? { etag: current.etag, lastModified: modified === undefined ? undefined : BigInt(+modified) }
    : undefined;
  return asking(() => host.evaluate(request.method, fields, validators, required));
}

/** Throws where the conditions of a request that changes something do not hold, or are required and not there. */
export function check(source, current, options) {
  const decision = evaluate(source, current, options);
  if (decision === 'precondition-failed' || decision === 'precondition-required') {
    throw new WharfError(decision);
  }
}

/** The response to a GET with its validators, or a 304 in its place where the client has it. */
export function conditional(source, response, current) {
  const headers = new Headers(response.headers);
  if (current.etag !== undefined) headers.set('etag', current.etag);
  if (current.lastModified !== undefined) {
    headers.set('last-modified', new Date(current.lastModified).toUTCString());
  }
  const decision = response.status === 200 ? evaluate(source, current) : 'proceed';
  if (decision === 'precondition-failed') throw new WharfError(decision);
  if (decision !== 'not-modified') {
    return new Response(response.body, { status: response.status, headers });
  }
  headers.delete('content-type');
  headers.delete('content-length');
  return new Response(null, { status: 304, headers });
}

/** Which of the media types the client wants; throws a 406 where it accepts none. */
export function negotiateType(source, offers) {
  return chosen(offers, host.negotiateType(values(source, 'accept'), offers));
}

/** Which of the languages the client wants; throws a 406 where it accepts none. */
export function negotiateLanguage(source, offers) {
  return chosen(offers, host.negotiateLanguage(values(source, 'accept-language'), offers));
}

/** Drops what the cache has of a URL, or makes it stale where `soft`; gives the number of entries. */
export function purge(url, { soft = false } = {}) {
  return Number(asking(() => host.purge(url, soft)));
}

/** The same for all that has this surrogate key. */
export function purgeKey(key, { soft = false } = {}) {
  return Number(asking(() => host.purgeKey(key, soft)));
}

/** What the cache has of the plugin's answers, and what it did since the server started. */
export function cacheFigures() {
  const { entries, bytes, hits, misses } = host.status();
  return { entries: Number(entries), bytes: Number(bytes), hits: Number(hits), misses: Number(misses) };
}

function values(source, name) {
  const value = requestOf(source).headers.get(name);
  return value === null ? [] : [value];
}

function chosen(offers, index) {
  if (index === undefined) throw new WharfError('not-acceptable', `there is ${offers.join(', ')}`);
  return offers[index];
}
