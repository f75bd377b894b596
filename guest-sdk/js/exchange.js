// The exchange of a request: the host names it by a token in a header.

import { open } from 'wharf:host/exchange@0.1.0';
import { WharfError } from './error.js';

/** What the host knows of this exchange, or null where it named none that is still alive. */
export function exchange(source) {
  const token = requestOf(source).headers.get('wharf-exchange');
  if (token === null) return null;
  try {
    return open(token);
  } catch {
    return null;
  }
}

/** The exchange; an error where there is none. */
export function exchangeOf(source) {
  const found = exchange(source);
  if (found === null) throw new WharfError('no-host');
  return found;
}

/** The `Request` in a Hono context, a Hono request or a fetch event, or itself. */
export function requestOf(source) {
  return source.req?.raw ?? source.raw ?? source.request ?? source;
}

/** A response in whose place the host puts what it holds. */
export function held(token, { headers, status = 200 } = {}) {
  const all = new Headers(headers);
  all.set('wharf-reply', token);
  return new Response(null, { status, headers: all });
}
