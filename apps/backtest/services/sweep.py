"""A sweep: many parameters on one part of the time, the best of them proved on the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from apps.backtest.parallel import Ground, Trial, run_trials
from apps.backtest.services.judging import changed, default_limits, judge_of
from apps.backtest.services.sources import open_source
from apps.backtest.slicing import whole_tapes
from apps.backtest.sweeping import Axis, Tried, cut_at, ranked
from apps.backtest.values import BacktestRefused, Request

PROVED: Final = 10
RANKED_BY: Final = ("result", "sharpe", "sortino", "calmar", "profit_factor", "win_rate", "expectancy", "net")


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep's points, best first by a figure of the time before `cut_ms`. Only the first were proved after it."""

    asked: Request
    axes: Sequence[Axis]
    figure: str
    first_ms: int
    cut_ms: int
    last_ms: int
    points: Sequence[Tried]
    currency: str

    def as_json(self) -> dict[str, Any]:
        return {
            "inputs": self.asked.as_json(),
            "ranked_by": self.figure,
            "from": _iso(self.first_ms),
            "cut": _iso(self.cut_ms),
            "to": _iso(self.last_ms),
            "currency": self.currency,
            "points": [
                {
                    "set": dict(row.changes),
                    "inside": dict(row.inside),
                    "outside": None if row.outside is None else dict(row.outside),
                }
                for row in self.points
            ],
        }


def sweep(
    *,
    asked: Request,
    axes: Sequence[Axis],
    points: Sequence[Mapping[str, str]],
    split: Decimal,
    figure: str = "result",
    processes: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Swept:
    """Try every point before the cut and the best of them after it. Raises `BacktestRefused`.

    `told` hears how many simulations of how many are done. `processes`: as many as there are cores, if not given.
    """
    if figure not in RANKED_BY:
        raise BacktestRefused(f"--rank {figure}: one of {', '.join(RANKED_BY)}")
    judge = judge_of(asked.strategy, asked.version, {})
    parameters = [changed(judge, point).parameters for point in points]  # a wrong one stops it before anything is read
    source = open_source(asked)
    tapes = whole_tapes(source.parts())
    if not any(len(tape) for tape in tapes.values()):
        raise BacktestRefused("there is no trade in what was asked")
    first_ms = min(int(tape.ts[0]) for tape in tapes.values() if len(tape))
    last_ms = max(int(tape.ts[-1]) for tape in tapes.values() if len(tape)) + 1
    cut_ms = cut_at(first_ms, last_ms, split)
    specs = {symbol: source.specs[symbol] for symbol in tapes}
    ground = Ground(specs, judge.strategy, judge.version_id, asked.capital, default_limits())
    count, total = 0, len(points) + min(PROVED, len(points))

    def run(trials: list[Trial]) -> dict[int, dict[str, Any]]:
        nonlocal count
        found = {}
        for number, figures in run_trials(tapes, ground, trials, processes=processes or os.cpu_count() or 1):
            found[number] = figures
            count += 1
            if told is not None:
                told(count, total)
        return found

    inside = run([Trial(number, one, None, cut_ms) for number, one in enumerate(parameters)])
    best = ranked([Tried(number, point, inside[number]) for number, point in enumerate(points)], figure)
    outside = run([Trial(row.number, parameters[row.number], cut_ms, None) for row in best[:PROVED]])
    final = [replace(row, outside=outside.get(row.number)) for row in best]
    return Swept(asked, axes, figure, first_ms, cut_ms, last_ms, final, next(iter(specs.values())).quote_asset)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
