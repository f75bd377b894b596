import type { Source } from './exchange.js';

/** Directives of `Cache-Control` (RFC 9111 section 5.2.2, RFC 5861, RFC 8246). Times are seconds. */
export interface Directives {
  /** Any cache may store it. */
  public?: boolean;
  /** Only the client's own cache may store it, or these fields of it. */
  private?: boolean | string[];
  /** Not used again without asking first, or not with these fields. */
  noCache?: boolean | string[];
  noStore?: boolean;
  noTransform?: boolean;
  mustRevalidate?: boolean;
  proxyRevalidate?: boolean;
  mustUnderstand?: boolean;
  immutable?: boolean;
  maxAge?: number;
  sMaxage?: number;
  staleWhileRevalidate?: number;
  staleIfError?: number;
}

/** What tells versions apart: an `ETag` with its quotes, a time of change. */
export interface Validators {
  etag?: string;
  /** A date, or milliseconds. */
  lastModified?: Date | number;
}

export type Decision =
  | 'proceed' | 'proceed-with-ranges' | 'not-modified' | 'precondition-failed' | 'precondition-required';

/** The `Cache-Control` that a name stands for, such as `semi-static`. */
export function policy(name: string): string;

/** All names, and what they stand for. */
export function policies(): Record<string, string>;

/** A `Cache-Control` made of its directives; what contradicts itself is refused. */
export function cacheControl(directives: Directives): string;

/** The `ETag` of a text or of bytes, at most 4 MiB. */
export function etag(content: string | ArrayBuffer | Uint8Array, options?: { weak?: boolean }): string;

/** The `ETag` of a version that the plugin counts or names itself. */
export function etagOfVersion(version: string | number, options?: { weak?: boolean }): string;

/** What the conditions of a request come to, in the order of RFC 9110; `null`: there is nothing yet. */
export function evaluate(source: Source, current: Validators | null, options?: { required?: boolean }): Decision;

/** Throws 412 where the conditions do not hold, 428 where one is `required` and there is none. */
export function check(source: Source, current: Validators | null, options?: { required?: boolean }): void;

/** The response to a GET with its validators, or a 304 in its place where the client has it. */
export function conditional(source: Source, response: Response, current: Validators): Response;

/** Which of the media types the client wants; throws a 406 where it accepts none. Vary by `Accept`. */
export function negotiateType(source: Source, offers: string[]): string;

/** Which of the languages the client wants; throws a 406 where it accepts none. Vary by `Accept-Language`. */
export function negotiateLanguage(source: Source, offers: string[]): string;

/** Drops what the cache has of a URL, or makes it stale where `soft`; gives the number of entries. */
export function purge(url: string, options?: { soft?: boolean }): number;

/** The same for all that has this surrogate key. */
export function purgeKey(key: string, options?: { soft?: boolean }): number;

/** What the cache has of the plugin's answers, and what it did since the server started. */
export function cacheFigures(): { entries: number; bytes: number; hits: number; misses: number };
