"""What each kind of fault does to a running world, and how everything is healed."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from tests.faultproxy import BOTH, DOWN, Direction
from tests.faults.script import Step
from tests.faults.world import World

RESTART_SECONDS: Final = 0.3  # after a kill -9 without a standby


class Event(NamedTuple):
    """Something done to the world at a time, in seconds after all connections stream."""

    at: float
    words: str
    act: Callable[[World], object]


def events_of(step: Step) -> list[Event]:
    """The events of one step, a function of the step alone."""
    return _KINDS.get(step.kind, _nothing)(step, random.Random(step.dice))


def heal(world: World) -> None:
    """Undo whatever still lasts."""
    world.way.heal()
    world.valkey.signal(signal.SIGCONT)
    if not world.valkey.answers():
        world.valkey.start()
    for name in list(world.held_down):
        world.start_ingest(name)


# --- the network ------------------------------------------------------------------------------------------------------


def _healed(at: float) -> Event:
    return Event(at, "the network is whole", lambda world: world.way.heal())


def _reset(step: Step, dice: random.Random) -> list[Event]:
    """Once, several times in a row, or with a while in which nobody may connect."""
    events = [
        Event(step.at + 0.1 * n, "every connection is reset", lambda world: world.way.reset())
        for n in range(dice.choice((1, 1, 3)))
    ]
    if dice.random() < 0.3:
        events += [
            Event(step.at, "connecting is refused", lambda world: world.way.refuse()),
            _healed(step.at + dice.uniform(0.2, 0.8)),
        ]
    return events


def _half_open(step: Step, dice: random.Random) -> list[Event]:
    direction: Direction = dice.choice((BOTH, BOTH, DOWN))
    discard = dice.random() < 0.5
    return [
        Event(step.at, "connections deliver nothing more", lambda world: world.way.drop(direction, discard=discard)),
        _healed(step.until),
    ]


def _cut_frame(step: Step, dice: random.Random) -> list[Event]:
    count = dice.randrange(1, 6_000)
    how: Literal["reset", "close"] = dice.choice(("reset", "close"))
    return [Event(step.at, f"cut after {count} bytes", lambda world: world.way.cut_after(count, how=how))]


def _corrupt(step: Step, dice: random.Random) -> list[Event]:
    def event(number: int, offset: int) -> Event:
        words = f"a byte is changed after {offset} more"
        return Event(step.at + 0.2 * number, words, lambda world: world.way.corrupt(offset))

    return [event(number, dice.randrange(4_000)) for number in range(dice.choice((1, 2)))]


def _throttle(step: Step, dice: random.Random) -> list[Event]:
    rate = dice.choice((5_000, 20_000, 60_000))
    return [Event(step.at, f"{rate} bytes per second", lambda world: world.way.throttle(rate)), _healed(step.until)]


def _delay(step: Step, dice: random.Random) -> list[Event]:
    seconds, jitter = dice.uniform(0.01, 0.3), dice.uniform(0.0, 0.2)
    return [
        Event(step.at, f"{seconds:.2f} s late, {jitter:.2f} s uneven", lambda world: world.way.delay(seconds, jitter)),
        _healed(step.until),
    ]


def _nothing(step: Step, dice: random.Random) -> list[Event]:
    return []


# --- our own processes ------------------------------------------------------------------------------------------------


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
    "reset": _reset,
    "half_open": _half_open,
    "cut_frame": _cut_frame,
    "corrupt": _corrupt,
    "throttle": _throttle,
    "delay": _delay,
    "redis_stop": _redis_stop,
    "kill_ingest": _kill_ingest,
}
