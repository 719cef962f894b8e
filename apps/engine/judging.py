"""The strategies of one shard at work: each in its own state per symbol, and none in the way of another.

A strategy that raises is disabled in its shard from that trade on, for all symbols: half a state gives no decisions.
What it had told before stands, and the cut into batches changes nothing about that. It is back where its plan says that
it begins anew, in each symbol from the first event of that minute on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from apps.engine.kernel import FIGURES, KINDS, MINUTE_MS, Array
from apps.engine.model import FailedStrategy, Scale
from apps.engine.plans import Packed, Plan
from apps.engine.tapes import Int64s

EVENTS_PER_SCAN: Final = 1024
WORDS_MAX: Final = 200

T = TypeVar("T")


class Columns(NamedTuple):
    """Trades of one symbol: event times in ms, prices in ticks, quantities in steps; contiguous, of one length."""

    ts: Int64s
    price: Int64s
    quantity: Int64s

    def cut(self, start: int, end: int) -> Columns:
        return Columns(self.ts[start:end], self.price[start:end], self.quantity[start:end])


class Found(NamedTuple):
    """A strategy fired on the trade of this row. `kind`: "entry" or "exit"."""

    row: int
    kind: str
    change: float
    rsi: float
    turnover: float


class Scanner:
    """Runs columns of any length through a strategy; the buffers for what it finds are bounded and used again."""

    def __init__(self, events_max: int = EVENTS_PER_SCAN) -> None:
        self._fired = np.empty(events_max, dtype=np.int64)
        self._kinds = np.empty(events_max, dtype=np.int64)
        self._figures = np.empty((events_max, FIGURES), dtype=np.float64)

    def scan(self, plan: Plan, strategy: Array, scale: Scale, columns: Columns) -> Iterator[tuple[list[Found], int]]:
        """What fired, oldest first, in parts: (events, trades judged by a warm strategy). `strategy` goes on in place.

        `columns` hold one trade at least. A part is complete before it is given; the next one is computed when asked
        for.
        """
        price_unit, quantity_unit = 10.0**scale.price_decimals, 10.0**scale.quantity_decimals
        for start, end, parameters in plan.pieces(strategy, columns.ts):
            part = columns if end - start == len(columns.ts) else columns.cut(start, end)
            row, rows = 0, end - start
            while row < rows:
                count, judged, row = plan.module.kernel.scan(
                    strategy, parameters, price_unit, quantity_unit, *part, self._fired, self._kinds, self._figures, row
                )
                yield self._told(count, start), judged

    def _told(self, count: int, start: int) -> list[Found]:
        if not count:
            return []
        rows, kinds, figures = (
            self._fired[:count].tolist(),
            self._kinds[:count].tolist(),
            self._figures[:count].tolist(),
        )
        return [Found(start + rows[k], KINDS[kinds[k]], *figures[k]) for k in range(count)]


class Judges:
    """The plans of a shard's strategies, by their number. `states` is a symbol's list of states in that order."""

    def __init__(self, version_ids: Sequence[int], plans: Sequence[Callable[[], Plan]]) -> None:
        """A plan that cannot be made (ValueError of a parameter) is a strategy that failed before its first trade."""
        self.version_ids = list(version_ids)
        self.disabled: dict[int, int] = {}  # by number: the event minute in which it raised
        self.failed: list[FailedStrategy] = []  # not yet reported
        self._scanner = Scanner()
        self.plans: list[Plan | None] = []
        self.replan(plans)

    def replan(self, plans: Sequence[Callable[[], Plan]]) -> None:
        """The same strategies with other stages from minutes on that nothing has been judged of."""
        self.plans = [self._guard(number, "", 0, make) for number, make in enumerate(plans)]

    def at(self, number: int, minute: int) -> Packed:
        """What judges the trades of an event minute, of a strategy that can judge."""
        plan = self.plans[number]
        assert plan is not None
        return plan.at(minute)

    def live(self) -> list[tuple[int, Plan]]:
        """The strategies that have not raised."""
        return [
            (number, plan) for number, plan in enumerate(self.plans) if plan is not None and number not in self.disabled
        ]

    def back(self, states: list[Array], minute: int) -> list[tuple[int, Plan, int]]:
        """Those that have raised and judge again: (number, plan, event minute from which they do, `minute` at most)."""
        found = []
        for number, failed_minute in self.disabled.items():
            plan = self.plans[number]
            since = None if plan is None else plan.resumes(failed_minute)
            if plan is not None and since is not None and since <= minute:
                plan.begin_anew(states[number], since)
                found.append((number, plan, since))
        return found

    def _judging(self, states: list[Array], minute: int) -> list[tuple[int, Plan]]:
        """Those that judge what happens to a symbol in an event minute."""
        if not self.disabled:
            return self.live()
        return self.live() + [(number, plan) for number, plan, _ in self.back(states, minute)]

    def roll(self, symbol: str, states: list[Array], minute: int) -> None:
        """Every minute before `minute` is over."""
        for number, plan in self._judging(states, minute):
            self._guard(number, symbol, minute, plan.roll, states[number], minute)

    def warm(self, symbol: str, states: list[Array], minute: int, close: float, turnover: float) -> None:
        """A closed minute from history, in quote units."""
        for number, plan in self._judging(states, minute + 1):
            self._guard(number, symbol, minute + 1, plan.warm, states[number], minute, close, turnover)

    def anew(
        self, symbol: str, states: list[Array], open_minute: int, minutes: Sequence[tuple[int, float, float]]
    ) -> None:
        """Begin anew from closed minutes (number, close, turnover), with what judges `open_minute`."""
        for number, plan in self._judging(states, open_minute):
            judge = plan.at(open_minute)
            if not judge.enabled:
                continue
            made = self._guard(number, symbol, open_minute, plan.module.anew, states[number], judge.parameters, minutes)
            if made is not None:
                states[number] = made

    def scan(
        self, symbol: str, states: list[Array], scale: Scale, columns: Columns
    ) -> tuple[list[tuple[int, Found]], int]:
        """What fired, by trade and then by number: (strategy's number, event); and how many trades were judged."""
        told: list[tuple[int, Found]] = []
        total = 0
        back = self._scan_back(symbol, states, scale, columns) if self.disabled else None
        for number, plan in self.live():
            before = states[number].copy()
            found: list[Found] = []
            judged = 0
            try:
                for events, count in self._scanner.scan(plan, states[number], scale, columns):
                    found += events
                    judged += count
            except Exception as error:  # noqa: BLE001 - whatever a strategy raises, the others go on
                states[number][:] = before
                found, judged = self._until_it_raises(number, plan, symbol, states[number], scale, columns, error)
            told += [(number, event) for event in found]
            total += judged
        if back is not None:
            told += back[0]
            total += back[1]
        told.sort(key=lambda item: (item[1].row, item[0]))
        return told, total

    def _scan_back(
        self, symbol: str, states: list[Array], scale: Scale, columns: Columns
    ) -> tuple[list[tuple[int, Found]], int]:
        """`scan` for those that had raised and judge again, from the first trade on that they may see."""
        told: list[tuple[int, Found]] = []
        total = 0
        minutes = columns.ts // MINUTE_MS
        for number, plan, since in self.back(states, int(minutes.max())):
            first = int(np.argmax(minutes >= since))
            part = columns.cut(first, len(columns.ts))
            before = states[number].copy()
            try:
                parts = list(self._scanner.scan(plan, states[number], scale, part))
                found, judged = [event for events, _ in parts for event in events], sum(count for _, count in parts)
            except Exception as error:  # noqa: BLE001 - whatever a strategy raises, the others go on
                states[number][:] = before
                found, judged = self._until_it_raises(number, plan, symbol, states[number], scale, part, error)
            told += [(number, event._replace(row=first + event.row)) for event in found]
            total += judged
        return told, total

    def _until_it_raises(
        self, number: int, plan: Plan, symbol: str, strategy: Array, scale: Scale, columns: Columns, error: Exception
    ) -> tuple[list[Found], int]:
        """One trade at a time: what was told before the trade that it failed on is told in any cut into batches."""
        found: list[Found] = []
        judged = row = 0
        for row in range(len(columns.ts)):
            try:
                for events, count in self._scanner.scan(plan, strategy, scale, columns.cut(row, row + 1)):
                    found += [event._replace(row=row) for event in events]
                    judged += count
            except Exception:  # noqa: BLE001 - the same one, at its own trade
                break
        self._fail(number, symbol, int(columns.ts[row]), error)
        return found, judged

    def _guard(self, number: int, symbol: str, minute: int, work: Callable[..., T], *values: Any) -> T | None:
        try:
            return work(*values)
        except Exception as error:  # noqa: BLE001 - whatever a strategy raises, the others go on
            self._fail(number, symbol, minute * MINUTE_MS, error)
            return None

    def _fail(self, number: int, symbol: str, ts_event: int, error: Exception) -> None:
        minute = ts_event // MINUTE_MS
        self.disabled[number] = max(minute, 1)
        words = f"{type(error).__name__}: {error}"[:WORDS_MAX]
        plan = self.plans[number] if number < len(self.plans) else None
        judge_id = self.version_ids[number] if plan is None else plan.at(minute).version_id
        self.failed.append(FailedStrategy(self.version_ids[number], symbol, words, ts_event, judge_id))
