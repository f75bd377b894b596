// All of the SDK. A bundler leaves out the files of which nothing is used, and with them the interfaces
// that they import.

export {
  cacheControl, cacheFigures, check, conditional, etag, etagOfVersion, evaluate, negotiateLanguage, negotiateType,
  policies, policy, purge, purgeKey,
} from './cache.js';
export { exchange } from './exchange.js';
export { WharfError } from './error.js';
export { history, longPoll, position, publish, subscriberCount, subscribers, wait } from './hub.js';
export { onSchedule } from './schedule.js';
export { emitter, openStream, sse } from './sse.js';
export { acceptWebSocket, onWebSocket, Socket, websocket } from './websocket.js';
