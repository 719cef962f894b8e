"""A simulation that is told, where history decided on the same trigger, what history was told. Pure.

Marks, ages, limits and the trading state are facts of the moment in which a decision was taken, and recorded trades do
not hold them: the marks depend on which minutes had been closed by then, the ages on a wall clock. Nor do they say in
which order an account did things: a worker that was stopped for a while decides, and books fills, later than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from apps.engine.desk.account import Desk, DeskDecision, DeskEnd, DeskOrder
from apps.engine.desk.book import MarkSet
from apps.engine.desk.deciding import Circumstances, Trigger
from apps.engine.matching import TopOfBook
from apps.engine.risk.values import Limits, TradingState


@dataclass(frozen=True, slots=True)
class Told:
    """What a recorded decision was told. Ages in ms of wall time; `marks` are the prices of what was held then.

    `sequence` is the decision's place in the account's order, `ended` that of its order's end (None: none, or not yet);
    `expired`: the order ended without a fill. `ts_event` is the trigger's event time in ms.
    """

    ts_event: int
    feed_age_ms: int | None
    signal_age_ms: int
    marks: MarkSet
    limits: Limits
    trading_state: TradingState
    sequence: int
    ended: int | None = None
    expired: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)  # as `RiskDecision.inputs` has them


class RecordedTurns:
    """Has a simulation do what history did in the order in which history did it.

    `told` is by trigger key. What came after something of a later event time is done at that later time; so the order
    is history's, and what history did not do has a place in it by its own event time.
    """

    def __init__(self, told: Mapping[str, Told], *, latency_ms: int) -> None:
        steps = [(row.sequence, row.ts_event, (key, False)) for key, row in told.items()]
        steps += [
            (row.ended, row.ts_event + latency_ms, (key, True)) for key, row in told.items() if row.ended is not None
        ]
        steps.sort()
        reached = accumulate((ts for _, ts, _ in steps), max)
        self._turns = {
            step: (when, sequence) for when, (sequence, _, step) in zip(reached, steps, strict=True)
        }  # fmt: skip
        self.waits = _joined((ts, self._turns[step][0]) for _, ts, step in steps)

    def turn_of(self, key: str, ends: bool, ts: int) -> tuple[int, int]:
        """When something is done, and its turn at that time. What history did not do has the first."""
        when, turn = self._turns.get((key, ends), (ts, 0))
        return max(when, ts), turn


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The times from an event to when it is done, in ms: in order, without those that are over at once."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        elif first < last:
            found.append((first, last))
    return found


class RecordedDesk(Desk):
    """`told` is by trigger key. A trading state stays until another one was recorded."""

    def __init__(self, told: Mapping[str, Told], **account: Any) -> None:
        super().__init__(**account)
        self._told = told

    @classmethod
    def like(cls, desk: Desk, told: Mapping[str, Told], **account: Any) -> RecordedDesk:
        """A desk that begins as `desk` does, which has decided nothing yet."""
        return cls(
            told, limits=desk.limits, terms=desk.terms, plans=desk.plans, paper=desk.paper, currency=desk.currency,
            session=desk.session, book=desk.book_name, **account,
        )  # fmt: skip

    def decide(self, *, trigger_key: str, version_id: int, trigger: Trigger, around: Circumstances) -> DeskDecision:
        """As `Desk.decide`. What is held here and was not then keeps the marks of the simulation."""
        was = self._told.get(trigger_key)
        if was is None:
            return super().decide(trigger_key=trigger_key, version_id=version_id, trigger=trigger, around=around)
        self.state, self.limits = was.trading_state, was.limits
        self.state_words = str(was.inputs.get("state_words", ""))
        around = replace(
            around,
            feed_age_ms=was.feed_age_ms,
            signal_age_ms=was.signal_age_ms,
            marks=MarkSet(was.marks.minute, {**around.marks.prices, **was.marks.prices}),
            **Circumstances.told(was.inputs),
        )
        return super().decide(trigger_key=trigger_key, version_id=version_id, trigger=trigger, around=around)

    def end(self, order: DeskOrder, quote: TopOfBook | None, *, gap: str = "") -> DeskEnd:
        """As `Desk.end`. An order that history let expire meets no quote here either."""
        was = self._told.get(order.trigger_key)
        return super().end(order, None if was is not None and was.expired else quote, gap=gap)
