"""Short faults of the whole road, for seeded runs: what each does, and how it is undone.

A seed draws some of them, at most one of each group, so that two never want the same thing: a server that is killed is
not frozen as well. What a fault cannot do because of another one (a lock in a database that is down) it leaves.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import psycopg
import redis

from apps.bus.failpoints import POINTS
from tests.faults.database import WAYS
from tests.faults.matrix_road import Road

STRIKES_MIN, STRIKES_MAX = 3, 5
PLAY_SECONDS: Final = 8.0
SERVICES: Final = ("ingest", "drain-0", "trade", "steward")
PASSINGS_MAX: Final = 3
# Who passes which points, by the beginnings of their names.
PASSED_BY: Final = {
    "ingest": ("ingest.",), "drain-0": ("drain.",), "trade": ("risk.", "sender.", "outbox."),
}  # fmt: skip

Act = Callable[[Road], object]


class Step(NamedTuple):
    """Something done to the road, so many seconds after the run began."""

    at: float
    words: str
    act: Act


Strike = Callable[[float, float, random.Random], list[Step]]
"""From a beginning and an end to the steps in between; the dice decide the details."""


def draw(seed: int) -> list[tuple[str, str]]:
    """The groups and kinds of a seed."""
    dice = random.Random(f"seed:{seed}")
    groups = dice.sample(list(GROUPS), dice.randint(STRIKES_MIN, STRIKES_MAX))
    return [(group, dice.choice(list(GROUPS[group]))) for group in groups]


def write(seed: int) -> list[Step]:
    """What happens in a run, in order: a function of its seed alone."""
    dice = random.Random(f"times:{seed}")
    steps: list[Step] = []
    for group, kind in draw(seed):
        strike, longest = GROUPS[group][kind]
        begin = dice.uniform(0.2, PLAY_SECONDS - longest)
        steps += strike(begin, begin + dice.uniform(0.3, 1.0) * longest, dice)
    return sorted(steps, key=lambda step: step.at)


def play(road: Road, steps: list[Step]) -> None:
    """Do them at their times, or as soon after as those before them are done."""
    began = time.monotonic()
    for step in steps:
        time.sleep(max(0.0, began + step.at - time.monotonic()))
        with suppress(psycopg.Error, redis.RedisError):  # what it strikes is struck already
            step.act(road)


def heal(road: Road) -> None:
    """Undo whatever still lasts. Points of failure that did not fire stay armed until the run has recovered."""
    for child in list(road.children.values()):
        child.signal(signal.SIGCONT)
    road.valkey.signal(signal.SIGCONT)
    if not road.valkey.answers():
        road.valkey.kill()
        road.valkey.start()
    road.redis_proxy.heal()
    road.database_proxy.heal()
    with road.redis() as client:
        client.config_set("maxmemory", 0)


# --- our processes ----------------------------------------------------------------------------------------------------


def _kill(begin: float, _end: float, dice: random.Random) -> list[Step]:
    names = dice.sample(SERVICES, dice.randint(1, len(SERVICES)))

    def kill(road: Road) -> None:
        for name in names:
            road.children[name].signal(signal.SIGKILL)

    return [Step(begin, f"kill -9 of {' and '.join(names)}", kill)]


def _end_in_order(begin: float, _end: float, dice: random.Random) -> list[Step]:
    name = dice.choice(SERVICES)
    return [Step(begin, f"SIGTERM for {name}", lambda road: road.children[name].signal(signal.SIGTERM))]


def _freeze(begin: float, end: float, dice: random.Random) -> list[Step]:
    name = dice.choice(SERVICES)
    return [
        Step(begin, f"{name} stands still", lambda road: road.children[name].signal(signal.SIGSTOP)),
        Step(end, f"{name} goes on", lambda road: road.children[name].signal(signal.SIGCONT)),
    ]


def _at_a_point(begin: float, _end: float, dice: random.Random) -> list[Step]:
    name = dice.choice(list(PASSED_BY))
    point = dice.choice([point for point in POINTS if point.startswith(PASSED_BY[name])])
    plan = f"{point}:{dice.randint(1, PASSINGS_MAX)}:{dice.choice(('exit', 'exit', 'sleep_ms=3000'))}"
    return [Step(begin, f"{name} starts with {plan}", lambda road: road.start_service(name, plan))]


# --- Redis ------------------------------------------------------------------------------------------------------------


def _redis_killed(begin: float, end: float, _dice: random.Random) -> list[Step]:
    return [
        Step(begin, "Redis is killed", lambda road: road.valkey.kill()),
        Step(end, "Redis starts", lambda road: road.valkey.start()),
    ]


def _redis_frozen(begin: float, end: float, _dice: random.Random) -> list[Step]:
    return [
        Step(begin, "Redis stands still", lambda road: road.valkey.signal(signal.SIGSTOP)),
        Step(end, "Redis goes on", lambda road: road.valkey.signal(signal.SIGCONT)),
    ]


def _redis_emptied(begin: float, _end: float, _dice: random.Random) -> list[Step]:
    def flush(road: Road) -> None:
        with road.redis() as client:
            client.flushall()

    return [Step(begin, "Redis is emptied", flush)]


def _redis_full(begin: float, end: float, _dice: random.Random) -> list[Step]:
    def limit(road: Road, size: int) -> None:
        with road.redis() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", size)

    return [
        Step(begin, "the memory of Redis is full", lambda road: limit(road, 1)),
        Step(end, "it has room", lambda road: limit(road, 0)),
    ]


# --- the ways to the servers ------------------------------------------------------------------------------------------


def _way(name: str) -> dict[str, tuple[Strike, float]]:
    """Everything that may happen to the connections of one server; `name` is that of the road's proxy."""

    def healed(at: float) -> Step:
        return Step(at, f"{name} is whole", lambda road: getattr(road, name).heal())

    def reset(begin: float, _end: float, _dice: random.Random) -> list[Step]:
        return [Step(begin, f"{name} resets everything", lambda road: getattr(road, name).reset())]

    def refuse(begin: float, end: float, _dice: random.Random) -> list[Step]:
        return [
            Step(begin, f"{name} lets nobody in", lambda road: getattr(road, name).refuse()),
            Step(begin, f"{name} resets everything", lambda road: getattr(road, name).reset()),
            healed(end),
        ]

    def strand(begin: float, end: float, _dice: random.Random) -> list[Step]:
        return [Step(begin, f"{name} is half-open", lambda road: getattr(road, name).strand()), healed(end)]

    def delay(begin: float, end: float, dice: random.Random) -> list[Step]:
        seconds = dice.uniform(0.02, 0.4)
        return [
            Step(begin, f"{name} is {seconds:.2f} s late", lambda road: getattr(road, name).delay(seconds, seconds)),
            healed(end),
        ]

    def answers_lost(begin: float, end: float, dice: random.Random) -> list[Step]:
        def lose(road: Road) -> None:
            getattr(road, name).cut_after(dice.randrange(80), "down")

        times = [begin + (end - begin) * n / 4 for n in range(4)]
        return [*(Step(at, f"{name} loses answers", lose) for at in times), healed(end)]

    return {
        "reset": (reset, 0.0),
        "refused": (refuse, 3.0),
        "half-open": (strand, 6.0),
        "late": (delay, 6.0),
        "answers lost": (answers_lost, 5.0),
    }


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _database_down(begin: float, end: float, dice: random.Random) -> list[Step]:
    way = dice.choice(list(WAYS))
    return [
        Step(begin, f"PostgreSQL ends: {way}", lambda road: road.database.stop(way)),
        Step(end, "PostgreSQL starts", lambda road: road.database.start()),
    ]


def _sessions_ended(begin: float, end: float, _dice: random.Random) -> list[Step]:
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = USER"
    return [Step(at, "every session is ended", lambda road: road.sql(statement)) for at in (begin, end)]


def _locked(begin: float, end: float, _dice: random.Random) -> list[Step]:
    def hold(road: Road) -> None:
        with psycopg.connect(road.database.url, connect_timeout=3) as connection:
            connection.execute("SELECT id FROM portfolio_account FOR UPDATE")
            time.sleep(end - begin)

    return [Step(begin, "somebody holds the account's lock", hold)]


GROUPS: Final[dict[str, dict[str, tuple[Strike, float]]]] = {
    "process": {
        "killed": (_kill, 0.0),
        "ended": (_end_in_order, 0.0),
        "still": (_freeze, 6.0),
        "at a point": (_at_a_point, 0.0),
    },
    "Redis": {
        "killed": (_redis_killed, 4.0),
        "still": (_redis_frozen, 6.0),
        "emptied": (_redis_emptied, 0.0),
        "full": (_redis_full, 4.0),
    },
    "way to Redis": _way("redis_proxy"),
    "PostgreSQL": {
        "down": (_database_down, 4.0),
        "sessions ended": (_sessions_ended, 3.0),
        "locked": (_locked, 4.0),
    },
    "way to PostgreSQL": _way("database_proxy"),
}
"""Of each kind how long it may last, in seconds."""
