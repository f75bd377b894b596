/** What an event carries: a string is text, bytes are binary, everything else becomes JSON. */
export type Data = unknown;

/** What can be said about an event beside its data. */
export interface EventOptions {
  /** The `event` field of event streams; none means `message`. */
  name?: string;
  /** An id of one's own in place of the host's; not beginning with `#`. */
  id?: string;
  /** The `retry` field of event streams, in milliseconds. */
  retry?: number;
  /** Header fields of the answer to a long poll. */
  fields?: Record<string, string> | [string, string][];
}

/** An event. */
export interface Event extends EventOptions {
  data?: Data;
}

/** What can be said about how an event is published. */
export interface PublishOptions extends EventOptions {
  /** Further topics that it belongs to; whoever follows several gets it once. */
  also?: string | string[];
  /** Only for those whose `private` selectors match. */
  private?: boolean;
  /** The stream or socket that does not get it: who sent it. */
  except?: string;
}

/** An event and where it goes. */
export interface Publication extends PublishOptions {
  topic: string;
  data?: Data;
}

/** Which topics. */
export interface Selectors {
  /** This very one, or these. A segment `*` is refused, so that what a client names is no pattern. */
  topic?: string | string[];
  /** Patterns, segment by segment: `*` is any one segment, as the last one it is one or more. */
  topics?: string | string[];
  /** URI templates (RFC 6570). */
  uriTemplates?: string | string[];
  /** URL patterns (WHATWG). */
  urlPatterns?: string | string[];
}

/** What somebody follows, and from where on; by custom from now on. */
export interface Subscription extends Selectors {
  /** Private events come if these match as well. */
  private?: Selectors;
  /** What all topics here begin with. */
  within?: string;
  /** After the event that the request names in `Last-Event-ID`, in the header or in the query. */
  resume?: boolean;
  /** After the event with this id; an empty string is now. */
  after?: string;
  /** With the oldest event that is kept. */
  earliest?: boolean;
}

/** Whether a subscription begins where it was to. */
export type Resumption = 'fresh' | 'complete' | 'lost';

/** Milliseconds between comments; or an event, or a comment, each `every` milliseconds without another. */
export type Heartbeat = number | ({ every: number } & Event);
