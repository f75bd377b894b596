// Notifications by npm's eventsource, the time by undici's EventSource, a long poll by undici.
//
//     events.mjs ORIGIN
import { EventSource } from 'eventsource';
import { EventSource as UndiciEventSource, request } from 'undici';

const [origin] = process.argv.slice(2);
const url = `${origin}/sse/notifications`;
const post = (path, content, headers = {}) => request(`${origin}${path}`, {
  method: 'POST', headers, body: JSON.stringify(content),
});
const add = async (message) => (await post('/sse/notifications', { user_id: 'ada', message })).body.dump();

const told = { messages: [], resumed: [], heartbeat: false };
told.refused = await new Promise((resolve) => {
  const source = new EventSource(url);
  source.addEventListener('error', ({ code }) => {
    source.close();
    resolve(code);
  });
});

const session = await post('/session', { user_id: 'ada' });
await session.body.dump();
const cookie = session.headers['set-cookie'].split(';')[0];
const open = (path = '') => new EventSource(`${url}${path}`, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, cookie } }),
});

let first;
await new Promise((resolve, reject) => {
  const source = open();
  source.addEventListener('error', ({ message }) => reject(new Error(message)));
  source.addEventListener('connected', async () => {
    for (const message of ['one', 'two\r\nlines', 'three']) await add(message);
  });
  source.addEventListener('notification', ({ data, lastEventId }) => {
    first ??= lastEventId;
    told.messages.push(JSON.parse(data).message);
  });
  source.addEventListener('heartbeat', () => {
    told.heartbeat = true;
    source.close();
    resolve();
  });
});
// As a page that was loaded anew: the id in the query.
await new Promise((resolve) => {
  const source = open(`?lastEventId=${encodeURIComponent(first)}`);
  source.addEventListener('notification', ({ data }) => {
    told.resumed.push(JSON.parse(data).message);
    if (told.resumed.length === 2) {
      source.close();
      resolve();
    }
  });
});

told.undici = await new Promise((resolve) => {
  const times = [];
  const source = new UndiciEventSource(`${origin}/sse/time`);
  source.onmessage = ({ data }) => {
    times.push(data);
    if (times.length === 2) {
      source.close();
      resolve(times);
    }
  };
});

const quiet = await request(`${origin}/api/realtime/events?timeout=0`);
await quiet.body.dump();
const poll = request(`${origin}/api/realtime/events`, {
  headers: { 'last-event-id': quiet.headers['last-event-id'] },
});
await (await post('/api/realtime/events', { text: 'polled' })).body.dump();
told.polled = await (await poll).body.json();

process.stdout.write(JSON.stringify(told));
process.exit(0);
