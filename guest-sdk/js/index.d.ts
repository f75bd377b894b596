export * from './cache.js';
export * from './exchange.js';
export * from './error.js';
export * from './hub.js';
export * from './schedule.js';
export * from './sse.js';
export * from './websocket.js';
