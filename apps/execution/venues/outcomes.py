"""Trouble that the paper venue makes on request: what becomes of an order is drawn from its id, so it is the same in
every run with the same seed.

`config["paper"]["outcomes"] = {"seed": 7, "chances": {"reply_lost": "0.1", "late_fill": "0.05"}}`; what is left of the
chances is an order that nothing happens to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

from apps.engine.money import ONE, ZERO, total

_DRAWS: Final = 1 << 64


class Outcome(StrEnum):
    """What may become of an order at the paper venue. The value is what `VenueOrder.outcome` holds."""

    NORMAL = ""
    REPLY_LOST = "reply_lost"  # received; the answer is lost
    NEVER_RECEIVED = "never_received"  # the request is lost
    ON_ITS_WAY = "on_its_way"  # the answer is lost, and the first question still finds no such order
    REJECT = "reject"
    PARTIAL_CANCEL = "partial_cancel"  # one half fills, the venue cancels the other
    PARTIAL_EXPIRE = "partial_expire"
    LATE_FILL = "late_fill"  # canceled; afterwards a fill of one half shows
    DUPLICATE_FILL = "duplicate_fill"  # every fill stands twice in every list
    OUT_OF_ORDER = "out_of_order"  # two fills, the later one listed first
    FILL_BEFORE_ACK = "fill_before_ack"  # the answer is lost, and the fill shows before the order's end does
    UNKNOWN_FILL = "unknown_fill"  # beside its own, a fill of an order that nobody here sent
    FEE_COIN = "fee_coin"  # the fee is taken in a coin of the venue's
    WRONG_SYMBOL = "wrong_symbol"  # the first list of its fills names another symbol
    WRONG_PRICE = "wrong_price"  # the first list of its fills has a price a hundred times too high
    CANCEL_LOST = "cancel_lost"  # a cancel is done; the answer is lost


UNANSWERED: Final = frozenset({Outcome.REPLY_LOST, Outcome.ON_ITS_WAY, Outcome.FILL_BEFORE_ACK})
HALVES: Final = frozenset({Outcome.PARTIAL_CANCEL, Outcome.PARTIAL_EXPIRE, Outcome.LATE_FILL})
DISTORTED: Final = frozenset({Outcome.WRONG_SYMBOL, Outcome.WRONG_PRICE})


@dataclass(frozen=True, slots=True)
class PaperFaults:
    """A seed and the chance of each outcome."""

    seed: int = 0
    chances: tuple[tuple[Outcome, Decimal], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> PaperFaults:
        """From a session's configuration. Raises ValueError for unknown names and for chances that are none."""
        if not settings.keys() <= {"seed", "chances"}:
            raise ValueError(f"outcomes have a seed and chances, not {sorted(settings)}")
        chances = tuple((_outcome(name), _chance(name, value)) for name, value in settings.get("chances", {}).items())
        if total(chance for _, chance in chances) > ONE:
            raise ValueError("the chances of outcomes add up to more than 1")
        return cls(int(settings.get("seed", 0)), chances)

    def draw(self, client_order_id: str) -> Outcome:
        """What becomes of this order: a function of seed and id alone."""
        digest = hashlib.sha256(f"{self.seed}|{client_order_id}".encode()).digest()
        drawn, reached = int.from_bytes(digest[:8], "big"), ZERO
        for outcome, chance in self.chances:
            reached = total([reached, chance])
            if drawn < reached * _DRAWS:
                return outcome
        return Outcome.NORMAL


def _outcome(name: str) -> Outcome:
    if not name or name not in {one.value for one in Outcome}:
        raise ValueError(f"unknown outcome {name!r} (known: {', '.join(one.value for one in Outcome if one)})")
    return Outcome(name)


def _chance(name: str, value: Any) -> Decimal:
    try:
        chance = Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError(f"the chance of {name} is {value!r}, not a number") from error
    if not chance.is_finite() or not 0 <= chance <= 1:
        raise ValueError(f"the chance of {name} is {value!r}, not a fraction from 0 to 1")
    return chance
