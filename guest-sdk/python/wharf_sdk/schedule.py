"""What `[[schedule]]` of the manifest calls.

    async def day(occurrence: schedule.Occurrence) -> None:
        await hub.publish("days", occurrence.due.isoformat())

    ScheduleEventsAsync = schedule.events(day)
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from wit_world import exports
from wit_world.exports import schedule_events_async as export

__all__ = ["Occurrence", "events"]


@dataclass(frozen=True)
class Occurrence:
    """One call of a schedule."""

    name: str
    due: datetime
    missed: int
    """How many times since the call before this one had none."""


def events(run: Callable[[Occurrence], Awaitable[None]]) -> type:
    """The export `schedule-events-async`: `ScheduleEventsAsync = schedule.events(run)`."""

    class ScheduleEventsAsync(exports.ScheduleEventsAsync):
        async def run(self, occurrence: export.Occurrence) -> None:
            due = datetime.fromtimestamp(occurrence.due / 1000, UTC)
            await task(Occurrence(occurrence.name, due, occurrence.missed))

    task = run
    return ScheduleEventsAsync
