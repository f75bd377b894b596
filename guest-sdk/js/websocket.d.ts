import type { Data, Publication, Selectors, Subscription } from './event.js';
import type { Source } from './exchange.js';

/** How a WebSocket is accepted. */
export interface WebSocketOptions extends Subscription {
  /** Further fields of the response. */
  headers?: HeadersInit;
  /** Subprotocols that the plugin speaks, the one that it likes best first. */
  protocols?: string | string[];
  /** Origins whose pages may open it (`https://example.com`, or `*`); by custom its own. */
  origins?: string | string[];
  /** Come with every event about it. */
  attributes?: Record<string, string>;
  /** Bytes of a message, decompressed, at the most; by custom 16 MiB. */
  maxMessage?: number;
  /** Closed after so many milliseconds without anything from the client; by custom 60,000. */
  idleTimeout?: number;
  /** A ping after so many milliseconds without anything; by custom 25,000; 0: never. */
  pingInterval?: number;
  /** Messages that a client may send each second, and at once. */
  rate?: { messages: number; burst?: number };
  /** permessage-deflate (RFC 7692), where the client offers it; by custom not. */
  compression?: boolean;
  /** Published when it begins; `{socket}` as `except` stands for its id. */
  onOpen?: Publication | Publication[];
  /** Published when it has ended, however it did. */
  onClose?: Publication | Publication[];
}

/** A WebSocket, by the id that names it. */
export class Socket {
  constructor(id: string, protocol?: string, attributes?: Record<string, string>);
  readonly id: string;
  readonly protocol?: string;
  readonly attributes: Record<string, string>;
  /** Sends a message: a string is text, bytes are binary, everything else becomes JSON. */
  send(data: Data): void;
  /** Closes it, after what is queued; by custom with 1000. */
  close(code?: number, reason?: string): void;
  /** Follows further topics, from now on. */
  join(topics: string | string[] | Selectors): void;
  /** Follows these no longer. */
  leave(topics: string | string[] | Selectors): void;
}

/** A response that accepts the WebSocket; where the client's request is none, what tells it so. */
export function websocket(source: Source, options?: WebSocketOptions): Response;

/** The same, and what is known of the socket; every refusal is thrown. */
export function acceptWebSocket(
  source: Source,
  options?: WebSocketOptions,
): { response: Response; socket: Socket; protocol?: string };

/** What comes from a WebSocket. */
export interface WebSocketHandlers {
  message?(socket: Socket, data: string | Uint8Array): void | Promise<void>;
  /** 1005 where the close had no code, 1006 where there was none. */
  closed?(socket: Socket, code: number, reason: string): void | Promise<void>;
}

/** The export `websocket-events`: `export const websocketEvents = onWebSocket({ message, closed })`. */
export function onWebSocket(handlers: WebSocketHandlers): object;
