"""What happens in a run: a function of its seed alone.

Each run draws four to seven kinds of fault from a deck that its seed has shuffled, so over many seeds every kind comes
up about equally often, in all mixtures and orders.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, NamedTuple

KINDS_MIN, KINDS_MAX = 4, 7
PLAY_SECONDS: Final = 7.0
CALM_SECONDS: Final = 0.6  # at the start, so that there is something to lose


class Kind(NamedTuple):
    """`rows` are the numbers of the fault matrix it stands for; `seconds` how long one lasts, least and most."""

    words: str
    rows: str
    seconds: tuple[float, float] = (0.0, 0.0)


# Times are the machine's; the exchange's and the ingest's clocks run thirty times as fast.
KINDS: Final[dict[str, Kind]] = {
    "reset": Kind("the network resets every connection", "N2"),
    "half_open": Kind("connections deliver nothing more and are not closed", "N1", (0.5, 2.0)),
    "silence": Kind("the exchange is alive and sends no data", "X8", (0.4, 2.0)),
    "cut_frame": Kind("a connection ends in the middle of a frame, or stands still there", "X4"),
    "corrupt": Kind("bytes are changed under way; TLS notices", "X4"),
    "duplicate": Kind("frames come twice", "X5", (0.3, 1.5)),
    "reorder": Kind("frames come in another order", "X5", (0.3, 1.5)),
    "refused": Kind("subscriptions are refused, all or some, at a reconnect", "X1", (0.5, 1.5)),
    "no_ack": Kind("subscriptions are not answered, or in part, at a reconnect", "X2", (0.3, 1.2)),
    "rotation": Kind("connections come of age and are replaced, perhaps while something else breaks", "X7"),
    "redis_stop": Kind("Redis is killed and comes back, or stands still", "R1, R6", (0.3, 2.0)),
    "kill_ingest": Kind("kill -9 of the ingest: the standby takes over, or it is started again", "P1, P2"),
    "throttle": Kind("the network is slow", "N3", (0.5, 1.5)),
    "delay": Kind("the network is late and uneven", "N3", (0.5, 1.5)),
    "garbage": Kind("frames that nobody can decode", "X4", (0.2, 1.0)),
    "swallow": Kind("the exchange leaves trades out", "X5", (0.2, 1.0)),
    "rest": Kind("REST fails while a hole is to be filled", "X10", (1.2, 2.5)),
    "late": Kind("trades come late", "X5", (0.2, 1.0)),
}


class Step(NamedTuple):
    """From `at` to `until` (seconds of the machine after all connections stream). `dice` decides the details."""

    at: float
    until: float
    kind: str
    dice: int


@dataclass(frozen=True)
class Script:
    seed: int
    trade_ids: bool
    tls: bool
    standby: bool
    rotate_seconds: float | None  # of the rules' clock
    shards: int
    trades_per_second: int  # of the market's time, all symbols together
    steps: tuple[Step, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        rotation = ("rotation",) if self.rotate_seconds is not None else ()
        return (*rotation, *(step.kind for step in self.steps))

    def words(self) -> str:
        parts = [
            "ids" if self.trade_ids else "no ids",
            *(["tls"] if self.tls else []),
            *(["standby"] if self.standby else []),
        ]
        return f"{', '.join(parts)}; " + ", ".join(f"{step.kind} {step.at:.1f}-{step.until:.1f}" for step in self.steps)


def write(seed: int) -> Script:
    """The script of a seed, the same on every machine."""
    dice = random.Random(f"fault run {seed}")
    deck = sorted(KINDS)
    dice.shuffle(deck)
    drawn = deck[: dice.randint(KINDS_MIN, KINDS_MAX)]
    steps = []
    for kind in drawn:
        if kind == "rotation":
            continue  # it happens all the time
        shortest, longest = KINDS[kind].seconds
        lasts = dice.uniform(shortest, longest)
        at = dice.uniform(CALM_SECONDS, max(CALM_SECONDS, PLAY_SECONDS - lasts))
        steps.append(Step(round(at, 2), round(at + lasts, 2), kind, dice.randrange(2**31)))
    return Script(
        seed=seed,
        trade_ids=dice.random() < 0.6,
        tls="corrupt" in drawn or dice.random() < 0.15,
        standby="kill_ingest" in drawn and dice.random() < 0.5,
        rotate_seconds=dice.choice((60.0, 90.0, 150.0)) if "rotation" in drawn else None,
        shards=dice.choice((1, 2, 3)),
        trades_per_second=dice.choice((4, 10, 25)),
        steps=tuple(sorted(steps)),
    )
