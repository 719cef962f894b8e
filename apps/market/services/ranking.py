"""Which symbols to follow, as a function of a rule and of what the exchange tells. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from apps.staff import numbers

FIXED: Final = "fixed"
TURNOVER: Final = "turnover"
MOVEMENT: Final = "movement"

FOLLOWED: Final = "followed"
KEPT: Final = "kept"
HELD: Final = "held"
LEFT_OUT: Final = "left out"
NEAR: Final = 10  # ranks below the last that would be kept, shown so that a person sees who comes next


@dataclass(frozen=True, slots=True)
class Criteria:
    """How to choose. `count` is for the two ranked modes; `always` is the whole list of the fixed one."""

    mode: str
    count: int
    quote_asset: str
    turnover_min: Decimal = Decimal(0)
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    @property
    def rank_kept(self) -> int:
        """A symbol that is followed stays down to this rank, so that two of equal worth do not take turns."""
        return self.count + max(2, self.count // 5)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A symbol that the exchange lists. Turnover of 24 h in the quote asset, movement as a fraction; None: not told.

    `barred`: why it cannot be followed here whatever its figures; empty if it can.
    """

    symbol: str
    quote_asset: str
    tradable: bool
    turnover: Decimal | None = None
    movement: Decimal | None = None
    barred: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided for one symbol, and why in words."""

    symbol: str
    follow: bool
    verdict: str
    why: str
    rank: int | None = None
    turnover: Decimal | None = None
    movement: Decimal | None = None

    def as_row(self) -> dict[str, Any]:
        """For a JSON column; figures as text."""
        figures = {"turnover": self.turnover, "movement": self.movement}
        return {
            "symbol": self.symbol,
            "rank": self.rank,
            **{name: None if value is None else numbers.plain(value) for name, value in figures.items()},
            "verdict": self.verdict,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Verdicts in the order of their ranks, the unranked behind them by symbol."""

    verdicts: Sequence[Verdict]
    considered: int
    symbols: frozenset[str] = field(default_factory=frozenset)

    def rows(self, criteria: Criteria, known: Collection[str]) -> list[dict[str, Any]]:
        """Those near the choice: followed, known from before, named by the rule, or not far below."""
        named = criteria.always | criteria.never | frozenset(known)
        last = criteria.rank_kept + NEAR
        near = (
            row
            for row in self.verdicts
            if row.follow or row.symbol in named or (row.rank is not None and row.rank <= last)
        )
        return [row.as_row() for row in near]


def choose(
    criteria: Criteria, candidates: Iterable[Candidate], *, followed: Collection[str], held: Mapping[str, str]
) -> Choice:
    """Judge every symbol that is listed, followed, held or named. `held`: symbol -> what would suffer without it."""
    listed = {row.symbol: row for row in candidates}
    ranks = _ranks(criteria, listed.values())
    symbols = sorted(
        {*listed, *followed, *held, *criteria.always}, key=lambda one: (ranks.get(one, len(ranks) + 1), one)
    )
    verdicts = [
        _judge(criteria, one, listed.get(one), ranks.get(one), one in followed, held.get(one)) for one in symbols
    ]
    considered = len(criteria.always) if criteria.mode == FIXED else len(ranks)
    return Choice(verdicts, considered, frozenset(row.symbol for row in verdicts if row.follow))


def _ranks(criteria: Criteria, listed: Iterable[Candidate]) -> dict[str, int]:
    """Ranks from 1 of all that could be chosen; equal figures go by turnover, then by name."""
    if criteria.mode == FIXED:
        return {}
    worthy = [row for row in listed if not _unfit(criteria, row)]
    worthy.sort(key=lambda row: (-_figure(criteria, row), -(row.turnover or 0), row.symbol))
    return {row.symbol: rank for rank, row in enumerate(worthy, 1)}


def _figure(criteria: Criteria, row: Candidate) -> Decimal:
    value = row.turnover if criteria.mode == TURNOVER else row.movement
    return abs(value or Decimal(0))


def _unfit(criteria: Criteria, row: Candidate) -> str:
    """Why a listed symbol cannot be chosen by its rank; empty if it can."""
    if row.symbol in criteria.never:
        return "the rule says never"
    return _barred(criteria, row) or _unranked(criteria, row)


def _barred(criteria: Criteria, row: Candidate) -> str:
    if row.quote_asset != criteria.quote_asset:
        return f"quoted in {row.quote_asset}, the account holds {criteria.quote_asset}"
    return row.barred if row.tradable else "the exchange does not let it trade now"


def _unranked(criteria: Criteria, row: Candidate) -> str:
    if row.turnover is None and (criteria.mode == TURNOVER or criteria.turnover_min):
        return "the exchange tells no turnover"
    if row.movement is None and criteria.mode == MOVEMENT:
        return "the exchange tells no movement"
    if row.turnover is not None and row.turnover < criteria.turnover_min:
        return f"turnover below {numbers.plain(criteria.turnover_min)} {criteria.quote_asset}"
    return ""


def _judge(
    criteria: Criteria, symbol: str, row: Candidate | None, rank: int | None, followed: bool, held: str | None
) -> Verdict:
    wanted, words = _by_rule(criteria, symbol, row, rank, followed)
    verdict = (KEPT if rank is not None and rank > criteria.count else FOLLOWED) if wanted else LEFT_OUT
    if wanted and symbol in criteria.always:
        verdict = FOLLOWED
    if not wanted and held:
        wanted, verdict, words = True, HELD, f"{held}; otherwise: {words}"
    figures = (row.turnover, row.movement) if row else (None, None)
    return Verdict(symbol, wanted, verdict, words[:200], rank, *figures)


def _by_rule(
    criteria: Criteria, symbol: str, row: Candidate | None, rank: int | None, followed: bool
) -> tuple[bool, str]:
    """Whether the rule alone wants a symbol, and why."""
    if symbol in criteria.never:
        return False, "the rule says never"
    if row is None:
        return False, "the exchange does not list it"
    if barred := _barred(criteria, row):
        return False, barred
    if symbol in criteria.always:
        return True, "on the fixed list" if criteria.mode == FIXED else "the rule says always"
    if criteria.mode == FIXED:
        return False, "not on the fixed list"
    if rank is None:
        return False, _unranked(criteria, row)
    place = f"rank {rank} by {criteria.mode}"
    if rank <= criteria.count:
        return True, f"{place}, {criteria.count} are wanted"
    if followed and rank <= criteria.rank_kept:
        return True, f"{place}, stays down to rank {criteria.rank_kept}"
    return False, f"{place}, {criteria.count} are wanted"
