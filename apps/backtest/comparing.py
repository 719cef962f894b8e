"""What happened beside what would have happened: the same decisions, added ones, removed ones, changed ones. Pure.

Two decisions are the same one if they have the same trigger: the trade that an entry was raised on, or the entry whose
position an exit closes and how often that was tried. The version of the strategy is no part of it, because another
version is what a what-if is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final

from apps.staff.numbers import plain

APPROVED: Final = "approved"
DENIED: Final = "denied"
REFUSED: Final = "refused"  # the rule fired over UNPROVEN minutes: no signal was raised
# What makes two decisions on one trigger equal. The rest says where they stand.
JUDGED: Final = ("verdict", "reasons", "quantity", "limit_price", "outcome")


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision and what became of it. `key` is without version; prices and quantities are exact.

    `outcome` is the fill in words (`2.5 at 0.2703, fee 0.0003`), why there was none, or empty for a denied one.
    """

    key: str
    ts_event: int
    symbol: str
    kind: str  # entry or exit
    verdict: str
    reasons: tuple[str, ...] = ()
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    outcome: str = ""

    def as_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        exact = {name: plain(value) for name, value in values.items() if isinstance(value, Decimal)}
        return {**values, **exact, "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True)
class Changed:
    """The same trigger, decided in two ways; `what` names the parts that differ."""

    was: Decided
    would: Decided
    what: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"was": self.was.as_json(), "would": self.would.as_json(), "what": list(self.what)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What round trips that were closed brought, in the quote currency: `net` is after fees."""

    round_trips: int
    wins: int
    fees: Decimal
    net: Decimal

    @classmethod
    def of(cls, closed: Iterable[tuple[Decimal, Decimal]]) -> Outcome:
        """From (net, fees) of each."""
        rows = list(closed)
        fees, net = sum((row[1] for row in rows), Decimal(0)), sum((row[0] for row in rows), Decimal(0))
        return cls(len(rows), sum(row[0] > 0 for row in rows), fees, net)

    def as_json(self) -> dict[str, Any]:
        return {
            "round_trips": self.round_trips,
            "wins": self.wins,
            "fees": plain(self.fees),
            "net": plain(self.net),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All in order of event time. `same` counts the decisions that are equal."""

    same: int
    added: tuple[Decided, ...]
    removed: tuple[Decided, ...]
    changed: tuple[Changed, ...]

    @property
    def identical(self) -> bool:
        return not (self.added or self.removed or self.changed)

    @property
    def compared(self) -> int:
        """How many decisions were looked at: a comparison of nothing has shown nothing."""
        return self.same + len(self.added) + len(self.removed) + len(self.changed)

    @property
    def first_difference(self) -> str:
        """The earliest of them in words; empty if there is none."""
        found = [(*_place(row), f"only in the simulation: {in_words(row)}") for row in self.added]
        found += [(*_place(row), f"only in history: {in_words(row)}") for row in self.removed]
        found += [(*_place(row.was), _change_in_words(row)) for row in self.changed]
        return min(found)[2] if found else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "same": self.same,
            "added": [row.as_json() for row in self.added],
            "removed": [row.as_json() for row in self.removed],
            "changed": [row.as_json() for row in self.changed],
        }


def compare(was: Sequence[Decided], would: Sequence[Decided]) -> Comparison:
    """History beside simulation. Raises ValueError if one side decides twice on one trigger."""
    before, after = _by_key(was), _by_key(would)
    both = [(row, after[key]) for key, row in before.items() if key in after]
    differing = [Changed(old, new, what) for old, new in both if (what := _differing(old, new))]
    return Comparison(
        same=len(both) - len(differing),
        added=_in_order(row for key, row in after.items() if key not in before),
        removed=_in_order(row for key, row in before.items() if key not in after),
        changed=tuple(sorted(differing, key=lambda row: _place(row.was))),
    )


def shared_key(trigger_key: str) -> str:
    """A trigger's key without the version: `e:7:XRPUSDT:1:9` is `e:XRPUSDT:1:9`, an exit names its entry so too."""
    kind, _, rest = trigger_key.partition(":")
    if kind == "x" and rest.startswith("e:"):
        return f"x:{shared_key(rest)}"
    return f"e:{rest.partition(':')[2]}" if kind == "e" else trigger_key


def in_words(row: Decided) -> str:
    """One decision in a line, for people."""
    why = f" ({', '.join(row.reasons)})" if row.reasons else ""
    size = "" if row.quantity is None else f", {plain(row.quantity)} at most at {plain(row.limit_price or Decimal(0))}"
    return f"{row.symbol} {row.kind} {row.key} {row.verdict}{why}{size}" + (f": {row.outcome}" if row.outcome else "")


def _change_in_words(row: Changed) -> str:
    sides = ((name, _plain(getattr(row.was, name)), _plain(getattr(row.would, name))) for name in row.what)
    parts = [f"{name} was {was}, would be {would}" for name, was, would in sides]
    return f"{row.was.symbol} {row.was.kind} {row.was.key}: {'; '.join(parts)}"


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value) or "none"


def _differing(was: Decided, would: Decided) -> tuple[str, ...]:
    return tuple(name for name in JUDGED if getattr(was, name) != getattr(would, name))


def _by_key(rows: Sequence[Decided]) -> dict[str, Decided]:
    found = {row.key: row for row in rows}
    if len(found) != len(rows):
        twice = next(row.key for number, row in enumerate(rows) if row.key in {other.key for other in rows[:number]})
        raise ValueError(f"two decisions on one trigger: {twice}")
    return found


def _in_order(rows: Iterable[Decided]) -> tuple[Decided, ...]:
    return tuple(sorted(rows, key=_place))


def _place(row: Decided) -> tuple[int, str]:
    return row.ts_event, row.key
