"""One simulation, from a setup and slices to a result. It knows the engine only, so any process can run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from apps.backtest.recorded import RecordedDesk, RecordedTurns, Told
from apps.backtest.report_data import Candles, candles_of, joined
from apps.backtest.slicing import Slice, unbroken
from apps.engine.backtest import Backtest, Setup
from apps.engine.desk.account import PaperSettings
from apps.engine.desk.deciding import Terms
from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.performance import Performance, measure
from apps.engine.results import Result
from apps.engine.risk.values import Limits
from apps.engine.shard import StrategySpec

# As a new paper session has it.
PAPER: Final = PaperSettings(latency_ms=150, base_bps=Decimal(1), impact_bps=Decimal(10))
# Returns of ratios per year are taken over a day if there are so many, over an hour for some days, else over a minute.
DAYS_FOR_DAILY: Final = 30
DAYS_FOR_HOURLY: Final = 2
MINUTES_A_DAY: Final = 1_440

GoOn = Callable[[int, int], bool]
"""Called after each slice with the trades so far and the event time reached; False ends the simulation."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A finished simulation. `candles` are one-minute bars per symbol, empty unless they were asked for."""

    result: Result
    performance: Performance
    candles: Mapping[str, Candles]
    final_equity: Decimal
    currency: str
    price_decimals: Mapping[str, int]


def terms_of_spec(spec: InstrumentSpec) -> Terms:
    """An instrument of a recording or an archive as decisions know it."""
    return Terms(
        symbol=spec.symbol,
        base_asset=spec.base_asset,
        quote_asset=spec.quote_asset,
        price_decimals=spec.price_decimals,
        quantity_decimals=spec.quantity_decimals,
        quantity_min=spec.quantity_min,
        notional_min=spec.notional_min,
        notional_max=spec.notional_max,
        taker_fee=spec.taker_fee,
        tradable=True,
    )


def setup_of(
    *,
    specs: Mapping[str, InstrumentSpec],
    strategy: str,
    version_id: int,
    parameters: Mapping[str, Any],
    capital: Decimal,
    limits: Limits,
    paper: PaperSettings = PAPER,
) -> Setup:
    """One strategy on these instruments, which are quoted in one asset."""
    return Setup(
        capital=capital,
        currency=next(iter(specs.values())).quote_asset,
        terms={symbol: terms_of_spec(spec) for symbol, spec in sorted(specs.items())},
        limits=limits,
        strategies=(StrategySpec(version_id, strategy, parameters),),
        paper=paper,
    )


def simulate(
    setup: Setup,
    slices: Iterable[Slice],
    *,
    go_on: GoOn | None = None,
    candles: bool = False,
    told: Mapping[str, Told] | None = None,
) -> Simulated | None:
    """Run the slices through the engine. None if `go_on` ended it. Raises TapeError for columns no feed could give.

    `told`: what recorded decisions were told, by trigger key; they are taken in the recorded order.
    """
    if told is None:
        backtest = Backtest(setup)
    else:
        turns = RecordedTurns(told, latency_ms=setup.paper.latency_ms)
        backtest = Backtest(setup, turns.turn_of)
        backtest.desk = RecordedDesk.like(backtest.desk, told, capital=setup.capital)
        slices = unbroken(slices, turns.waits)
    bars: dict[str, list[Candles]] = {}
    for chunk, end_ms in slices:
        for symbol, tape in chunk.items():
            tape.check()
            if candles:
                bars.setdefault(symbol, []).append(candles_of(tape))
        backtest.feed(chunk, end_ms=end_ms)
        if go_on is not None and not go_on(backtest.result.trades, end_ms):
            return None
    result = backtest.finish()
    open_since = [position.opened_ts for position in backtest.desk.positions.values()]
    return Simulated(
        result=result,
        performance=measure(
            result.equity, result.round_trips, period_minutes=period_of(result), open_since_ms=open_since
        ),
        candles={symbol: joined(parts) for symbol, parts in sorted(bars.items())},
        final_equity=result.equity[-1][1] if result.equity else setup.capital,
        currency=setup.currency,
        price_decimals={symbol: terms.price_decimals for symbol, terms in setup.terms.items()},
    )


def period_of(result: Result) -> int:
    """Minutes between the returns that yearly figures are worked out from."""
    days = len(result.equity) / MINUTES_A_DAY
    if days >= DAYS_FOR_DAILY:
        return MINUTES_A_DAY
    return 60 if days >= DAYS_FOR_HOURLY else 1
