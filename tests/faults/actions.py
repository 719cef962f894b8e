"""What each kind of fault does to a running world, and how everything is healed."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.faults.script import Step
from tests.faults.world import World

RESTART_SECONDS: Final = 0.3  # after a kill -9 without a standby


class Event(NamedTuple):
    """Something done to the world at a time, in seconds after all connections stream."""

    at: float
    words: str
    act: Callable[[World], None]


def events_of(step: Step) -> list[Event]:
    """The events of one step, a function of the step alone."""
    return _KINDS[step.kind](step, random.Random(step.dice))


def heal(world: World) -> None:
    """Undo whatever still lasts."""
    world.valkey.signal(signal.SIGCONT)
    if not world.valkey.answers():
        world.valkey.start()
    for name in list(world.held_down):
        world.start_ingest(name)


def _redis_stop(step: Step, dice: random.Random) -> list[Event]:
    if dice.random() < 0.35:
        return [
            Event(step.at, "Redis stands still", lambda world: world.valkey.signal(signal.SIGSTOP)),
            Event(step.until, "Redis goes on", lambda world: world.valkey.signal(signal.SIGCONT)),
        ]
    return [
        Event(step.at, "Redis is killed", lambda world: world.valkey.kill()),
        Event(step.until, "Redis is started", lambda world: world.valkey.start()),
    ]


def _kill_ingest(step: Step, dice: random.Random) -> list[Event]:
    """With a standby the killed one comes back at once, as the next standby; without, after a moment."""
    killed: list[str] = []

    def kill(world: World) -> None:
        name = world.holder()
        killed.append(name)
        world.held_down.add(name)
        world.ingests[name].kill()

    def start(world: World) -> None:
        world.start_ingest(killed[-1])

    return [
        Event(step.at, "kill -9 of the ingest", kill),
        Event(step.at + RESTART_SECONDS, "the killed ingest is started", start),
    ]


_KINDS: Final[dict[str, Callable[[Step, random.Random], list[Event]]]] = {
    "redis_stop": _redis_stop,
    "kill_ingest": _kill_ingest,
}
