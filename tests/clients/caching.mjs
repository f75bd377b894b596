// undici with its own cache in front of the endpoints: how often it had to ask, and what it gave.
//
//     caching.mjs ORIGIN
import { Agent, DecoratorHandler, interceptors, request } from 'undici';

const [origin] = process.argv.slice(2);
const statuses = [];
class Counting extends DecoratorHandler {
  onResponseStart(controller, status, ...rest) {
    statuses.push(status);
    return super.onResponseStart(controller, status, ...rest);
  }
}
const counting = (dispatch) => (options, handler) => dispatch(options, new Counting(handler));
const dispatcher = new Agent().compose(counting, interceptors.cache());

const ask = async (path, headers = {}) => {
  const answer = await request(origin + path, { dispatcher, headers });
  return answer.body.text();
};
const twice = async (path) => {
  statuses.length = 0;
  const [one, two] = [await ask(path), await ask(path)];
  return { asked: statuses.length, same: one === two };
};

const post = await twice('/api/posts/1');
const token = await twice('/api/auth/token');
const feed = await twice('/api/realtime/feed/main');
feed.last = statuses.at(-1);
statuses.length = 0;
const languages = [];
for (const language of ['en', 'de', 'en']) {
  const headers = { accept: 'application/json', 'accept-language': language };
  languages.push(JSON.parse(await ask('/api/content', headers)).language);
}

process.stdout.write(JSON.stringify({ post, token, feed, languages, languagesAsked: statuses.length }));
await dispatcher.close();
