/** One call of a schedule. */
export interface Occurrence {
  /** The schedule's `name`. */
  name: string;
  /** When it was due. */
  due: Date;
  /** How many times since the call before this one had none. */
  missed: number;
}

/** The export `schedule-events`: `export const scheduleEvents = onSchedule(async ({ name }) => { … })`. */
export function onSchedule(run: (occurrence: Occurrence) => void | Promise<void>): object;
