/** Why something was refused. */
export type WharfErrorCode =
  | 'not-granted' | 'invalid' | 'too-large' | 'too-many' | 'too-late' | 'busy' | 'failed'
  | 'not-requested' | 'bad-handshake' | 'foreign-origin' | 'unsupported'
  | 'unknown-policy' | 'not-acceptable' | 'precondition-failed' | 'precondition-required'
  | 'gone' | 'full' | 'refused' | 'closed' | 'no-host';

/** What the host refused, and the answer that it makes: Hono gives it by itself. */
export class WharfError extends Error {
  constructor(code: WharfErrorCode, message?: string, headers?: Record<string, string>);
  readonly code: WharfErrorCode;
  /** The status of the answer. */
  readonly status: number;
  readonly title: string;
  readonly headers: Record<string, string>;
  /** The answer, a problem document (RFC 9457). */
  getResponse(): Response;
}
