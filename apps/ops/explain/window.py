"""The minutes that a rule looked at, the conditions it asked, and both worked out again from bars and trades."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from apps.engine.model import MINUTE_MS, Scale
from apps.market.models import Bar, Coverage, FeedEpoch, Instrument
from apps.ops.explain.parts import Condition, Recomputed, WindowBar, WindowPart
from apps.ops.explain.stream import Row
from apps.signals.models import Signal, SignalRefusal, StrategyVersion

PROVEN: Final = "PROVEN"
MINUTES_MAX: Final = 150
TOLERANCE: Final = 1e-9


def window_part(
    signal: Signal | SignalRefusal, version: StrategyVersion, epoch: FeedEpoch, instrument: Instrument
) -> WindowPart:
    """Closed minutes that the signal's figures reach back to, oldest first, and the rule's conditions."""
    last = signal.ts_event // MINUTE_MS - 1
    lookback = int(version.parameters.get("lookback_minutes", 0))
    first = last - min(lookback, MINUTES_MAX)
    mine = {"epoch": epoch, "instrument": instrument, "minute__gte": first, "minute__lte": last}
    lost = {row.minute: row for row in Coverage.objects.filter(**mine)}
    bars = tuple(_bar(row, lost.get(row.minute)) for row in Bar.objects.filter(**mine).order_by("minute"))
    reason = signal.reason if isinstance(signal, SignalRefusal) else signal.unproven_reason
    return WindowPart(
        first, last, bars, conditions(version.parameters, signal.change, signal.rsi, signal.turnover),
        signal.unproven_minutes, reason,
    )  # fmt: skip


def _bar(row: Bar, lost: Coverage | None) -> WindowBar:
    status, reason = (PROVEN, "") if lost is None else (lost.status.upper(), lost.reason)
    return WindowBar(
        row.minute, row.open, row.high, row.low, row.close, row.volume, row.turnover, row.count, row.source,
        row.revision, status, reason,
    )  # fmt: skip


def conditions(
    parameters: Mapping[str, Any], change: float | None, rsi: float | None, turnover: float | None
) -> tuple[Condition, ...]:
    """The momentum rule's three conditions (apps.engine.strategies.momentum), for a version that has their parameters.

    Other rules have conditions of their own, which are not stored as figures: then there are none here.
    """
    if not {"threshold_pct", "rsi_min", "turnover_min", "volume_multiplier"} <= parameters.keys():
        return ()
    asked = (
        ("change", change, ">=", float(parameters["threshold_pct"]) / 100),
        ("rsi", rsi, ">", float(parameters["rsi_min"])),
        ("turnover", turnover, ">=", float(parameters["turnover_min"]) * float(parameters["volume_multiplier"])),
    )
    return tuple(Condition(name, value, sign, limit, _holds(value, sign, limit)) for name, value, sign, limit in asked)


def _holds(value: float | None, sign: str, limit: float) -> bool | None:
    if value is None:
        return None
    return value > limit if sign == ">" else value >= limit


# --- again ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Again:
    """What came of working indicators out again; `why_not` where that could not be done."""

    proof: tuple[Recomputed, ...] = ()
    why_not: str = ""


def indicators_again(
    signal: Signal,
    version: StrategyVersion,
    epoch: FeedEpoch,
    instrument: Instrument,
    minute_rows: Sequence[Row] | None,
) -> Again:
    """Change, RSI and turnover from the stored bars and the trades of the open minute, by the strategy's own kernel.

    `minute_rows` are the trades of the signal's minute up to its entry.
    """
    minute = signal.ts_event // MINUTE_MS
    if signal.kind != Signal.Kind.ENTRY:
        return Again(why_not="an exit has no indicators: its price and its position's plan say when it is due")
    if minute_rows is None:
        return Again(why_not="the trades of its minute are gone, so its indicators cannot be worked out again")
    bars = list(Bar.objects.filter(epoch=epoch, instrument=instrument, minute__lt=minute).order_by("minute"))
    if any(bar.revision or bar.source == Bar.Source.BACKFILL for bar in bars):
        return Again(why_not="minutes before it were corrected after it; `manage.py verify` derives it from the stream")
    needed = _bars_needed(version)
    if len(bars) < needed:
        return Again(why_not=f"of the {needed} minutes that its indicators need only {len(bars)} are stored")
    figures = _judged(signal, version, instrument, bars, minute_rows)
    if figures is None:
        return Again((Recomputed("signal", "fired", "did not fire"),))
    stored = (("change", signal.change), ("RSI", signal.rsi), ("turnover", signal.turnover))
    return Again(tuple(_figure(name, was, now) for (name, was), now in zip(stored, figures, strict=True)))


def _figure(name: str, stored: float | None, again: float) -> Recomputed:
    """Bars hold a minute's turnover in one sum, the kernel added trade by trade: equal but for the last bits."""
    same = stored is not None and math.isclose(stored, again, rel_tol=TOLERANCE)
    return Recomputed(name, repr(stored), repr(stored if same else again))


def _bars_needed(version: StrategyVersion) -> int:
    from apps.signals.services.versions import module_of

    return module_of(version.strategy.name).bars_needed(version.parameters)


def _judged(
    signal: Signal, version: StrategyVersion, instrument: Instrument, bars: Sequence[Bar], rows: Sequence[Row]
) -> tuple[float, float, float] | None:
    """The figures of the signal's trade; None if the rule does not fire on it."""
    from apps.engine.judging import Columns, Scanner  # brings the compiler, which few processes need
    from apps.engine.plans import Plan, Stage
    from apps.signals.services.versions import module_of

    module = module_of(version.strategy.name)
    quiet = {"cooldown_minutes": 0} if "cooldown_minutes" in version.parameters else {}  # of signals before it
    plan = Plan(module, [Stage(0, version.pk, {**version.parameters, **quiet})])
    state = module.new_state()
    for bar in bars:
        plan.warm(state, bar.minute, float(bar.close), float(bar.turnover))
    index = next(
        (n for n, row in enumerate(rows) if (row.ts_event, row.trade_id) == (signal.ts_event, signal.trade_id)), None
    )
    if index is None:
        return None
    part = rows[: index + 1]
    ts, price, quantity = ([row.ts_event for row in part], [row.price for row in part], [row.quantity for row in part])
    columns = Columns(*(np.array(column, dtype=np.int64) for column in (ts, price, quantity)))
    scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
    found = [event for events, _ in Scanner(len(part)).scan(plan, state, scale, columns) for event in events]
    fired = next((event for event in found if event.row == index), None)
    return None if fired is None else (fired.change, fired.rsi, fired.turnover)
