// A long poll by undici: one that times out, and one that a PUT answers.
//
//     polling.mjs ORIGIN
import { request } from 'undici';

const [origin] = process.argv.slice(2);
const url = `${origin}/api/realtime/poll/board`;
const headers = { 'x-last-version': '1' };

const quiet = await request(`${url}?timeout=0.2`, { headers });
await quiet.body.dump();

let answered;
const poll = request(`${url}?timeout=30`, { headers }).then((answer) => {
  answered = performance.now();
  return answer;
});
await new Promise((resolve) => setTimeout(resolve, 300));
const change = await request(url, { method: 'PUT', body: JSON.stringify({ n: 2 }) });
const changed = performance.now();
await change.body.dump();
const answer = await poll;

process.stdout.write(JSON.stringify({
  quiet: quiet.statusCode,
  version: answer.headers['x-current-version'],
  content: await answer.body.json(),
  milliseconds: answered - changed,
}));
