"""The strategies of a simulation at work on slices of tapes, none in the way of another.

A strategy that raises is out from that trade on, for all symbols, as in a live session: what it had told before stands,
the others go on. It is back where its plan says that it begins anew. How the tape was cut changes nothing about that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from apps.engine.judging import WORDS_MAX, Scanner
from apps.engine.kernel import MINUTE_MS, Array
from apps.engine.model import FailedStrategy
from apps.engine.plans import Plan
from apps.engine.scanning import Found, scan_tape
from apps.engine.shard import StrategySpec
from apps.engine.tapes import Tape

Slice = Mapping[str, Tape]


class Told(NamedTuple):
    """A signal of the strategy with this number."""

    symbol: str
    number: int
    found: Found

    def moved(self, rows: int) -> Told:
        """The same, with rows counted from so many before."""
        return self._replace(found=self.found._replace(row=self.found.row + rows))


class _Stop(NamedTuple):
    """The trade on which a strategy raised."""

    ts: int
    symbol: str
    row: int
    error: Exception


class TapeJudges:
    """One state per symbol and strategy. `failed` names what has raised so far, in the order of slices."""

    def __init__(self, specs: Sequence[StrategySpec], symbols: Sequence[str]) -> None:
        """Raises ValueError (from the strategies) if a parameter is out of range."""
        self._specs = specs
        self._plans = [spec.plan for spec in specs]
        self._states: list[dict[str, Array]] = [
            {symbol: spec.module.new_state() for symbol in symbols} for spec in specs
        ]
        self._from_ms: dict[int, int | None] = {}  # of those that raised: from when they judge again, None: never
        self._scanner = Scanner()
        self.failed: list[FailedStrategy] = []

    def scan(self, tapes: Slice) -> Iterator[Told]:
        """Every signal of the next slice, by strategy and symbol."""
        held = {symbol: tape for symbol, tape in tapes.items() if len(tape)}
        for number, plan in enumerate(self._plans):
            yield from self._scan(number, plan, held)

    def _scan(self, number: int, plan: Plan, tapes: Slice) -> list[Told]:
        told: list[Told] = []
        while (from_ms := self._from_ms.get(number, 0)) is not None:
            firsts = {symbol: int(tape.ts.searchsorted(from_ms)) for symbol, tape in tapes.items()}
            rest = {symbol: tape.cut(firsts[symbol], len(tape)) for symbol, tape in tapes.items()} if from_ms else tapes
            found, stop = self._until_it_raises(number, plan, rest)
            told += [one.moved(firsts[one.symbol]) for one in found] if from_ms else found
            if stop is None:
                break
            self._fail(number, plan, stop)
        return told

    def _until_it_raises(self, number: int, plan: Plan, tapes: Slice) -> tuple[list[Told], _Stop | None]:
        told: list[Told] = []
        stop: _Stop | None = None
        for symbol, tape in tapes.items():
            state = self._states[number][symbol]
            before = state.copy()
            try:
                told += self._told(number, plan, state, tape)
            except Exception as error:  # noqa: BLE001 - whatever a strategy raises, the others go on
                row = self._failing_row(number, plan, before, tape)
                told += self._told(number, plan, before.copy(), tape.cut(0, row))
                if stop is None or int(tape.ts[row]) < stop.ts:
                    stop = _Stop(int(tape.ts[row]), symbol, row, error)
        if stop is not None:
            told = [one for one in told if _stands(one, stop)]
        return told, stop

    def _told(self, number: int, plan: Plan, state: Array, tape: Tape) -> list[Told]:
        if not len(tape):
            return []
        return [Told(tape.symbol, number, found) for found in scan_tape(plan, state, tape, self._scanner)]

    def _failing_row(self, number: int, plan: Plan, before: Array, tape: Tape) -> int:
        """The first row with which the tape up to it cannot be scanned, by halving."""
        low, high = 0, len(tape) - 1
        while low < high:
            middle = (low + high) // 2
            try:
                self._told(number, plan, before.copy(), tape.cut(0, middle + 1))
            except Exception:  # noqa: BLE001 - the same one
                high = middle
            else:
                low = middle + 1
        return low

    def _fail(self, number: int, plan: Plan, stop: _Stop) -> None:
        minute = max(stop.ts // MINUTE_MS, 1)
        words = f"{type(stop.error).__name__}: {stop.error}"[:WORDS_MAX]
        judge_id = plan.at(stop.ts // MINUTE_MS).version_id
        self.failed.append(FailedStrategy(self._specs[number].version_id, stop.symbol, words, stop.ts, judge_id))
        since = plan.resumes(minute)
        self._from_ms[number] = None if since is None else since * MINUTE_MS
        if since is not None:
            for state in self._states[number].values():
                state[:] = plan.module.new_state()


def _stands(told: Told, stop: _Stop) -> bool:
    """Told before the trade on which the strategy raised. At the same time in another symbol is not before."""
    return told.found.ts < stop.ts or (told.symbol == stop.symbol and told.found.row < stop.row)
