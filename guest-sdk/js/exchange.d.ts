/** Where a request comes from: a Hono context or request, a fetch event, or the request itself. */
export type Source =
  | Request
  | { readonly request: Request }
  | { readonly raw: Request }
  | { readonly req: { readonly raw: Request } };

/** The connection that carries the exchange. */
export interface Connection {
  id: bigint;
  protocol: 'http1' | 'http2' | 'http3';
  tls?: { version: string; cipher: string; alpn?: string; sni?: string; earlyData: boolean };
  peer: string;
  local: string;
  requests: bigint;
}

/** What the host knows of an exchange, and what can be done to it: `wit/exchange.wit`. */
export interface Exchange {
  earlyHints(links: string[]): void;
  setWriteDeadline(milliseconds?: bigint): void;
  setBandwidthLimit(bytesPerSecond?: bigint): void;
  setBuffered(buffered: boolean): void;
  requestId(): string;
  connection(): Connection;
  route(): string;
  cancelled(): boolean;
}

/** What the host knows of this exchange, or null where it named none that is still alive. */
export function exchange(source: Source): Exchange | null;

/** What a response that the host completes may say itself. */
export interface Head {
  headers?: HeadersInit;
  /** By custom 200. */
  status?: number;
}
