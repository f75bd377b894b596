// What `[[schedule]]` of the manifest calls.

/** The export `schedule-events`: `export const scheduleEvents = onSchedule(async ({ name }) => { … })`. */
export function onSchedule(run) {
  return {
    run: ({ name, due, missed }) => run({ name, due: new Date(Number(due)), missed }),
  };
}
