// A job by npm's eventsource: its progress, its end, and that the client is told to stay away then.
//
//     jobs.mjs ORIGIN
import { EventSource } from 'eventsource';
import { request } from 'undici';

const [origin] = process.argv.slice(2);
const begun = await request(`${origin}/jobs`, {
  method: 'POST',
  body: JSON.stringify({ name: 'eventsource', steps: 6 }),
});
const { job_id } = await begun.body.json();

const told = await new Promise((resolve) => {
  const steps = [];
  let status;
  let close;
  const source = new EventSource(`${origin}/sse/progress/${job_id}`);
  source.addEventListener('progress', ({ data }) => {
    const now = JSON.parse(data);
    status = now.status;
    steps.push(now.step);
  });
  source.addEventListener('close', ({ data }) => {
    close = JSON.parse(data);
  });
  source.addEventListener('error', ({ code }) => {
    if (source.readyState === EventSource.CLOSED) resolve({ steps, status, close, code });
  });
});
told.unknown = await new Promise((resolve) => {
  const source = new EventSource(`${origin}/sse/progress/0123456789abcdef`);
  source.addEventListener('error', ({ data }) => {
    if (data === undefined) return;
    source.close();
    resolve(JSON.parse(data).error);
  });
});
process.stdout.write(JSON.stringify(told));
