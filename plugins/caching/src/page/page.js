'use strict';
// What `fetch` does about the browser's own cache: nothing is taken from it. With `no-store` alone the
// browser would ask the server's cache to leave itself out, too; a `Cache-Control` of our own prevents that.
const plain = { 'cache-control': 'max-age=31536000', pragma: 'wharf' };
const now = () => new Date().toLocaleTimeString();
const json = (method, url, value, headers) => ({ method, url, headers, body: JSON.stringify(value) });

const rows = [
  { url: '/api/posts/1', about: 'public for an hour; strong ETag; changed with If-Match, then purged',
    change: (row) => json('PUT', '/api/posts/1', { title: `Changed at ${now()}`, body: 'By the page.' }, { 'if-match': row.etag ?? '*' }) },
  { url: '/api/articles', about: 'public for an hour; Last-Modified',
    change: () => json('POST', '/api/articles', { title: `Written at ${now()}`, author: 'the page' }) },
  { url: '/api/content', about: 'a variant for each form and language', headers: { accept: 'application/json', 'accept-language': 'fr' } },
  { url: '/api/content', about: 'the same, in XML and German', headers: { accept: 'application/xml', 'accept-language': 'de' } },
  { url: '/api/stock/AAPL/price', about: 'trading hours: 15 seconds; else five minutes',
    change: () => json('PUT', '/api/stock/AAPL/price', { price: Math.round(Math.random() * 30000) / 100 }) },
  { url: '/api/trading/prices/AAPL', about: 'trading hours: a second, with Expires; else five minutes; ETag',
    change: () => json('PUT', '/api/trading/prices/AAPL', { price: Math.round(Math.random() * 30000) / 100 }) },
  { url: '/api/sports/1/score', about: 'live: 10 seconds; else an hour',
    change: () => json('PUT', '/api/sports/1/score', { status: Math.random() < 0.5 ? 'live' : 'finished', score: { home: Math.floor(Math.random() * 5), away: Math.floor(Math.random() * 5) } }) },
  { url: '/api/auth/token', about: 'stored nowhere: another token each time' },
  { url: '/api/dashboard/ada', about: 'private: not in a cache that others share; early hints' },
  { url: '/api/dashboard/ada/widgets', about: 'private, half a minute; Last-Modified',
    change: () => json('PUT', '/api/dashboard/ada/widgets', { widgets: [{ type: 'note', text: now() }] }) },
  { url: '/api/dashboard/public/metrics', about: 'a minute, then up to five more while it is asked for anew' },
  { url: '/api/events/public', about: 'public for five minutes',
    change: () => json('POST', '/api/events/public', { title: `Party of ${now()}`, date: 'today' }) },
  { url: '/api/news/trending', about: 'five minutes, then the old news at once for up to a day; a change makes them stale',
    change: () => json('POST', '/api/news', { title: `Breaking at ${now()}` }) },
  { url: '/api/realtime/config', about: 'a minute; ETag',
    change: () => json('PUT', '/api/realtime/config', { poll_seconds: Math.ceil(Math.random() * 30), features: { trending: true } }) },
  { url: '/api/realtime/feed/main', about: 'stored, and asked about each time: 304 behind the scenes',
    change: () => json('POST', '/api/realtime/feed/main', { text: `Said at ${now()}` }) },
  { url: '/api/realtime/metrics', about: 'half a minute; Last-Modified' },
  { url: '/api/realtime/prices', about: 'realtime: no-cache, max-age=30' },
  { url: '/api/config/static', about: 'static' },
  { url: '/api/config/semi-static', about: 'semi-static' },
  { url: '/api/config/dynamic', about: 'dynamic' },
  { url: '/api/config/realtime', about: 'realtime' },
  { url: '/api/config/sensitive', about: 'sensitive' },
  { url: '/api/config/ultra-fresh', about: 'ultra-fresh: stock prices, live scores' },
  { url: '/api/config/frequently-updated', about: 'frequently-updated: messages, notifications' },
  { url: '/api/config/user-specific', about: 'user-specific: a personal dashboard' },
  { url: '/api/config/public-realtime', about: 'public-realtime: news, public events' },
  { url: '/api/config/sensitive-realtime', about: 'sensitive-realtime: tokens, payments' },
  { url: '/api/large-dataset', about: 'compressed for who accepts that; the coded variant is stored once' },
  { url: '/api/realtime/large_dataset', about: 'the same, asked about each time' },
];

const state = document.getElementById('state');
const template = document.getElementById('row');
const shown = [];

function outcome(response) {
  const simple = response.headers.get('x-cache-status');
  if (simple) return simple;
  const member = response.headers.get('cache-status') ?? '';
  if (/;\s*hit\b/.test(member)) return 'HIT';
  const why = /fwd=([a-z-]+)/.exec(member)?.[1];
  return { stale: 'EXPIRED', bypass: 'BYPASS' }[why] ?? (why ? 'MISS' : 'not cached');
}

async function ask(row, extra = {}) {
  const begun = performance.now();
  const headers = { ...plain, ...row.headers, ...extra };
  const response = await fetch(row.url, { headers, cache: 'no-store' });
  const body = await response.text();
  show(row, response, body, performance.now() - begun);
}

function show(row, response, body, took) {
  const names = ['date', 'age', 'cache-control', 'expires', 'etag', 'last-modified', 'vary', 'content-type', 'content-language',
    'content-encoding', 'content-length', 'cache-status', 'x-cache-status', 'x-response-time', 'server-timing', 'pragma', 'link'];
  const lines = names.filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}`);
  const at = row.element;
  const what = outcome(response);
  at.querySelector('.status').textContent = `${response.status} ${what}`;
  at.querySelector('.status').dataset.outcome = response.status >= 400 ? 'error' : what;
  at.querySelector('.took').textContent = `${took.toFixed(1)} ms`;
  at.querySelector('.headers').textContent = lines.join('\n');
  if (response.status !== 304) at.querySelector('.body').textContent = body.slice(0, 2000);
  row.etag = response.headers.get('etag') ?? row.etag;
  row.modified = response.headers.get('last-modified') ?? row.modified;
  row.age = Number(response.headers.get('age') ?? 0);
  row.shownAt = performance.now();
  const lifetime = /(?:^|,)\s*max-age=(\d+)/.exec(response.headers.get('cache-control') ?? '')?.[1];
  row.lifetime = lifetime === undefined ? undefined : Number(lifetime);
}

async function doing(button, what) {
  button.disabled = true;
  try {
    await what();
    state.textContent = '';
  } catch (error) {
    state.textContent = String(error.message ?? error);
  }
  button.disabled = false;
  await figures();
}

async function change(row) {
  const { method, url, headers, body } = row.change(row);
  const response = await fetch(url, { method, headers: { 'content-type': 'application/json', ...headers }, body });
  const answer = await response.text();
  row.etag = response.headers.get('etag') ?? undefined;
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${answer}`);
  await ask(row);
}

async function purge(row) {
  const body = JSON.stringify({ url: row.url });
  const response = await fetch('/caching/purge', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  if (!response.ok) throw new Error(`purge: ${response.status} ${await response.text()}`);
  const { purged } = await response.json();
  row.element.querySelector('.status').textContent = `${purged} purged`;
  row.element.querySelector('.status').dataset.outcome = '';
  row.shownAt = undefined;
}

function conditions(row) {
  if (row.etag) return { 'if-none-match': row.etag };
  return row.modified ? { 'if-modified-since': row.modified } : { 'cache-control': 'no-cache' };
}

async function figures() {
  const response = await fetch('/caching/status', { cache: 'no-store' });
  if (!response.ok) return;
  for (const [name, value] of Object.entries(await response.json())) {
    const at = document.getElementById(name);
    if (at) at.textContent = value.toLocaleString();
  }
}

for (const row of rows) {
  const element = template.content.cloneNode(true).firstElementChild;
  const find = (name) => element.querySelector(name);
  const fields = Object.entries(row.headers ?? {}).map(([name, value]) => ` ${name}: ${value}`);
  find('.request').textContent = `GET ${row.url}${fields.join('')}`;
  find('.about').textContent = row.about;
  find('.fetch').addEventListener('click', (event) => doing(event.target, () => ask(row)));
  find('.revalidate').addEventListener('click', (event) => doing(event.target, () => ask(row, conditions(row))));
  find('.purge').addEventListener('click', (event) => doing(event.target, () => purge(row)));
  if (row.change) find('.change').addEventListener('click', (event) => doing(event.target, () => change(row)));
  else find('.change').remove();
  row.element = element;
  shown.push(row);
  document.getElementById('rows').append(element);
}

setInterval(() => {
  for (const row of shown) {
    const at = row.element.querySelector('.age');
    if (row.shownAt === undefined) { at.textContent = ''; continue; }
    const age = row.age + Math.floor((performance.now() - row.shownAt) / 1000);
    at.textContent = row.lifetime === undefined ? `age ${age} s` : `age ${age} of ${row.lifetime} s`;
  }
}, 250);
figures().catch((error) => { state.textContent = String(error.message ?? error); });
