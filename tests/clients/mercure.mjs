// Follows a hub with the npm package eventsource: a token in the header, then again from where it was.
//
//     mercure.mjs HUB TOKEN TOPIC
import { EventSource } from 'eventsource';

const [hub, token, topic] = process.argv.slice(2);
const headers = {};
let open = null;

/** An EventSource with the token; what the answer's head said comes along. */
function follow(query, lastEventId) {
  const url = `${hub}?${new URLSearchParams(query)}`;
  const source = new EventSource(url, {
    fetch: async (input, init) => {
      const fields = { ...init.headers, Authorization: `Bearer ${token}` };
      if (lastEventId) fields['Last-Event-ID'] = lastEventId;
      const response = await fetch(input, { ...init, headers: fields });
      headers.lastEventId = response.headers.get('last-event-id');
      headers.mercureLastEventId = response.headers.get('mercure-last-event-id');
      return response;
    },
  });
  return new Promise((resolve, reject) => {
    source.onopen = () => resolve(source);
    source.onerror = (error) => reject(new Error(error.message));
  });
}

function next(source, type = 'message') {
  return new Promise((resolve) => {
    source.addEventListener(type, ({ data, lastEventId }) => resolve({ data, lastEventId }), { once: true });
  });
}

async function publish(fields) {
  const body = new URLSearchParams({ topic, ...fields });
  const response = await fetch(hub, { method: 'POST', body, headers: { Authorization: `Bearer ${token}` } });
  return response.text();
}

open = await follow({ topic });
let arrived = next(open);
const firstId = await publish({ data: 'one\ntwo', private: 'on' });
const first = await arrived;
arrived = next(open, 'note');
await publish({ data: 'typed', type: 'note' });
const typed = await arrived;
open.close();

const missedId = await publish({ data: 'missed' });
open = await follow({ topic }, typed.lastEventId);
const missed = await next(open);
open.close();

process.stdout.write(JSON.stringify({ firstId, first, typed, missedId, missed, headers }));
process.exit(0);
