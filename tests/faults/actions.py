"""What each kind of fault does to a running world, and how everything is healed."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from tests.faultproxy import BOTH, DOWN, Direction
from tests.faults.script import Step
from tests.faults.world import World

SYMBOLS: Final = ("ADAUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
RESTART_SECONDS: Final = 0.3  # after a kill -9 without a standby


class Event(NamedTuple):
    """Something done to the world at a time, in seconds after all connections stream."""

    at: float
    words: str
    act: Callable[[World], object]


def events_of(step: Step) -> list[Event]:
    """The events of one step, a function of the step alone."""
    return _KINDS[step.kind](step, random.Random(step.dice))


def heal(world: World) -> None:
    """Undo whatever still lasts."""
    world.way.heal()
    world.command(do="heal")
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
    if dice.random() < 0.5:
        return _stuck_frame(step, dice)
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


# --- the exchange -------------------------------------------------------------------------------------------------


def _command(at: float, do: str, **options: object) -> Event:
    words = " ".join([do, *(f"{name}={value}" for name, value in options.items())])
    return Event(at, f"exchange: {words}", lambda world: world.command(do=do, **options))


def _connections(dice: random.Random) -> str:
    return dice.choice(("all", "random"))


def _silence(step: Step, dice: random.Random) -> list[Event]:
    """Nothing at all, then everything or only what is new; or answers to pings but no data."""
    seconds, connections = round(step.until - step.at, 2), _connections(dice)
    if dice.random() < 0.4:
        return [_command(step.at, "mute_market", c=connections, seconds=seconds)]
    return [_command(step.at, "silence", c=connections, seconds=seconds, lose=dice.random() < 0.5)]


def _stuck_frame(step: Step, dice: random.Random) -> list[Event]:
    """Inside a frame the exchange falls silent, closes or resets."""
    then = dice.choice(("nothing", "nothing", "close", "reset"))
    return [_command(step.at, "cut_frame", c=_connections(dice), then=then)]


def _duplicate(step: Step, dice: random.Random) -> list[Event]:
    return [_command(at, "duplicate", c="all", frames=dice.randint(1, 20)) for at in _times(step, dice)]


def _reorder(step: Step, dice: random.Random) -> list[Event]:
    return [_command(at, "reorder", c="all", frames=dice.randint(1, 6)) for at in _times(step, dice)]


def _late(step: Step, dice: random.Random) -> list[Event]:
    """From a few seconds of the market's time to more than a minute."""
    return [
        _command(
            at, "late", c="all", s=_symbols(dice), trades=dice.randint(1, 8), seconds=dice.choice((0.05, 0.3, 1.3))
        )
        for at in _times(step, dice)
    ]


def _swallow(step: Step, dice: random.Random) -> list[Event]:
    """Sent to nobody. REST tells of them, or only the klines do."""
    told = dice.random() < 0.6
    return [
        _command(at, "swallow", s=_symbols(dice), trades=dice.randint(1, 5), rest=told) for at in _times(step, dice)
    ]


def _garbage(step: Step, dice: random.Random) -> list[Event]:
    """Beside good frames, instead of good frames, or one wrong value among good ones."""
    events = []
    for at in _times(step, dice):
        do = dice.choice(_GARBAGE)
        options: dict[str, object] = {"frames": dice.randint(1, 3)}
        if do in _MAY_REPLACE:
            options["replace"] = dice.random() < 0.5
        if do == "huge_frame":
            options["bytes"] = dice.choice((300_000, 6_000_000))
        events.append(_command(at, do, c="all", **options))
    return events


def _refused(step: Step, dice: random.Random) -> list[Event]:
    """Refused is what is asked for anew, so the connections are reset too."""
    seconds = round(step.until - step.at + 0.2, 2)
    symbols = _symbols(dice) if dice.random() < 0.6 else []
    refusal = _command(step.at, "refuse", s=symbols, seconds=seconds)
    return [refusal, Event(step.at + 0.02, "every connection is reset", lambda world: world.way.reset())]


def _no_ack(step: Step, dice: random.Random) -> list[Event]:
    mode = dice.choice(("drop", "drop", "delay", "partial", "partial", "error", "unlisted", "mixed", "no_id"))
    spoilt = _command(step.at, "ack", mode=mode, seconds=round(dice.uniform(0.05, 0.6), 2), times=dice.randint(1, 4))
    return [spoilt, Event(step.at + 0.02, "every connection is reset", lambda world: world.way.reset())]


def _rest(step: Step, dice: random.Random) -> list[Event]:
    """REST fails while it is needed: for the repair of a reset."""
    mode = dice.choice(("status", "status", "timeout", "html", "wrong_json", "broken_json", "reset"))
    options: dict[str, object] = {"mode": mode, "seconds": round(step.until - step.at, 2)}
    if mode == "status":
        options["status"] = dice.choice((429, 500, 503))
    return [
        _command(step.at, "rest", **options),
        Event(step.at + 0.02, "every connection is reset", lambda world: world.way.reset()),
    ]


def _times(step: Step, dice: random.Random) -> list[float]:
    """One to three moments within a step."""
    return sorted(round(dice.uniform(step.at, step.until), 2) for _ in range(dice.randint(1, 3)))


def _symbols(dice: random.Random) -> list[str]:
    return sorted(dice.sample(SYMBOLS, dice.randint(1, 3)))


_MAY_REPLACE: Final = (
    "truncate", "garbage", "unknown_oneof", "unknown_channel", "text_in_binary", "binary_in_text", "bad_utf8", "deep",
    "empty_deals", "huge_frame",
)  # fmt: skip
_GARBAGE: Final = (*_MAY_REPLACE, "bad_values", "split")


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
    "silence": _silence,
    "duplicate": _duplicate,
    "reorder": _reorder,
    "late": _late,
    "swallow": _swallow,
    "garbage": _garbage,
    "refused": _refused,
    "no_ack": _no_ack,
    "rest": _rest,
    "throttle": _throttle,
    "delay": _delay,
    "redis_stop": _redis_stop,
    "kill_ingest": _kill_ingest,
}
