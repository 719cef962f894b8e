"""NautilusTrader: a strategy in Python with the momentum rule and its exits, on its own simulated exchange.

Run by the Python of `.venv-bench` as `nautilus.py FOLDER ROUNDS`. The folder holds the trades by time as .npy columns
and `setup.json`. Prints one line of JSON: the seconds of every `engine.run()`, and [symbol, ms, trade id] of each order
that opened a position. The rule is written from its description, apart from our kernel; work that need not be
done at every trade is done once a minute.
"""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import TradeTick
from nautilus_trader.model.enums import AccountType, AggressorSide, CurrencyType, OmsType, OrderSide
from nautilus_trader.model.events import OrderFilled, PositionOpened
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

MINUTE_MS = 60_000
NS_PER_MS = 1_000_000
RSI_PERIOD = 14
VENUE = Venue("SIM")
SIDES = {1: AggressorSide.BUYER, 2: AggressorSide.SELLER}


class Watch:
    """What the rule remembers of one instrument. `ref` is 0 until it is warm."""

    def __init__(self, name: str, instrument: CurrencyPair, lookback: int) -> None:
        self.name, self.instrument, self.lookback = name, instrument, lookback
        self.minute = -1
        self.last = 0.0
        self.turnover = 0.0
        self.closes: list[float] = []
        self.turnovers: list[float] = []
        self.gain = self.loss = 0.0
        self.ref = self.rsi = self.window = 0.0
        self.signal_ms: int | None = None
        self.held: list[Holding] = []

    def roll(self, minute: int) -> None:
        """Close the open minute and those without trades that follow it."""
        if self.minute < 0:
            self.minute = minute
        while self.minute < minute:
            self._close()
            self.minute += 1

    def _close(self) -> None:
        closes = self.closes
        closes.append(self.last)
        self.turnovers.append(self.turnover)
        self.turnover = 0.0
        count = len(closes) - 1  # changes so far
        if count:
            change = closes[-1] - closes[-2]
            up, down = (change, 0.0) if change > 0 else (0.0, -change)
            if count <= RSI_PERIOD:
                self.gain += up / RSI_PERIOD
                self.loss += down / RSI_PERIOD
            else:
                self.gain += (up - self.gain) / RSI_PERIOD
                self.loss += (down - self.loss) / RSI_PERIOD
        if len(closes) > max(self.lookback, RSI_PERIOD):
            self.ref = closes[-1 - self.lookback]
            both = self.gain + self.loss
            self.rsi = 100 * self.gain / both if both else 0.0
            self.window = sum(self.turnovers[-self.lookback :])


class Holding:
    """A position and what ends it."""

    def __init__(self, position_id: Any, entry: float, due_ms: int, stop_pct: float, target_pct: float) -> None:
        self.position_id, self.due_ms = position_id, due_ms
        self.stop, self.target = entry * (1 - stop_pct / 100), entry * (1 + target_pct / 100)


class Momentum(Strategy):  # type: ignore[misc]
    """Buys two per cent of the start capital at every signal."""

    def __init__(self, watches: dict[InstrumentId, Watch], setup: dict[str, Any]) -> None:
        super().__init__(StrategyConfig(strategy_id="momentum", order_id_tag="1"))
        rule = setup["parameters"]
        self.watches = watches
        self.threshold = rule["threshold_pct"] / 100
        self.rsi_min = rule["rsi_min"]
        self.turnover_min = rule["turnover_min"] * rule["volume_multiplier"]
        self.cooldown_ms = rule["cooldown_minutes"] * MINUTE_MS
        self.stop_pct, self.target_pct = float(rule["stop_loss_pct"]), float(rule["take_profit_pct"])
        self.holding_ms = rule["max_holding_minutes"] * MINUTE_MS
        self.notional = 0.02 * setup["capital"]
        self.entries: list[tuple[str, int, str]] = []
        self.fills = 0

    def on_start(self) -> None:
        for instrument_id in self.watches:
            self.subscribe_trade_ticks(instrument_id)

    def on_trade_tick(self, tick: TradeTick) -> None:
        watch = self.watches[tick.instrument_id]
        now = tick.ts_event // NS_PER_MS
        minute = now // MINUTE_MS
        if minute != watch.minute:
            watch.roll(minute)
        price = tick.price.as_double()
        watch.last = price
        watch.turnover += price * tick.size.as_double()
        if watch.held:
            self._leave(watch, price, now)
        ref = watch.ref
        if not ref or price / ref - 1 < self.threshold or watch.rsi <= self.rsi_min:
            return
        if watch.window + watch.turnover < self.turnover_min:
            return
        if watch.signal_ms is not None and now - watch.signal_ms < self.cooldown_ms:
            return
        watch.signal_ms = now
        self.entries.append((watch.name, now, tick.trade_id.value))
        quantity = watch.instrument.make_qty(self.notional / price)
        self.submit_order(self.order_factory.market(tick.instrument_id, OrderSide.BUY, quantity))

    def _leave(self, watch: Watch, price: float, now: int) -> None:
        for held in list(watch.held):
            if price <= held.stop or price >= held.target or now >= held.due_ms:
                watch.held.remove(held)
                self.close_position(self.cache.position(held.position_id))

    def on_position_opened(self, event: PositionOpened) -> None:
        due_ms = event.ts_event // NS_PER_MS + self.holding_ms
        held = Holding(event.position_id, event.avg_px_open, due_ms, self.stop_pct, self.target_pct)
        self.watches[event.instrument_id].held.append(held)

    def on_order_filled(self, _event: OrderFilled) -> None:
        self.fills += 1


def instrument_of(name: str, setup: dict[str, Any]) -> CurrencyPair:
    price_decimals, quantity_decimals = setup["price_decimals"], setup["quantity_decimals"]
    base = Currency(name.removesuffix("USDT"), 8, 0, name, CurrencyType.CRYPTO)
    return CurrencyPair(
        instrument_id=InstrumentId(Symbol(name), VENUE),
        raw_symbol=Symbol(name),
        base_currency=base,
        quote_currency=USDT,
        price_precision=price_decimals,
        size_precision=quantity_decimals,
        price_increment=Price(10**-price_decimals, price_decimals),
        size_increment=Quantity(10**-quantity_decimals, quantity_decimals),
        ts_event=0,
        ts_init=0,
        maker_fee=Decimal(0),
        taker_fee=Decimal(setup["taker_fee"]),
    )


def ticks_of(folder: Path, instruments: list[CurrencyPair]) -> list[TradeTick]:
    """The trades as the engine wants them; this is not timed."""
    column = {name: np.load(folder / f"{name}.npy").tolist() for name in ("ts", "symbol", "price", "quantity", "side")}
    numbers = np.load(folder / "number.npy").tolist()
    ids = [instrument.id for instrument in instruments]
    price_unit, quantity_unit = (10.0**n for n in (instruments[0].price_precision, instruments[0].size_precision))
    price_decimals, quantity_decimals = instruments[0].price_precision, instruments[0].size_precision
    return [
        TradeTick(
            ids[symbol],
            Price(price / price_unit, price_decimals),
            Quantity(quantity / quantity_unit, quantity_decimals),
            SIDES[side],
            TradeId(str(number)),
            ts * NS_PER_MS,
            ts * NS_PER_MS,
        )
        for ts, symbol, price, quantity, side, number in zip(*column.values(), numbers, strict=True)
    ]


def run(folder: Path, rounds: int) -> dict[str, Any]:
    setup = json.loads((folder / "setup.json").read_text(encoding="utf-8"))
    instruments = [instrument_of(name, setup) for name in setup["symbols"]]
    ticks = ticks_of(folder, instruments)
    seconds, cpu_seconds, found = [], [], None
    for _ in range(rounds):
        engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))
        engine.add_venue(
            venue=VENUE,
            oms_type=OmsType.HEDGING,
            account_type=AccountType.CASH,
            starting_balances=[Money(setup["capital"], USDT)],
            trade_execution=True,
        )
        for instrument in instruments:
            engine.add_instrument(instrument)
        engine.add_data(ticks, validate=False, sort=False)
        lookback = setup["parameters"]["lookback_minutes"]
        strategy = Momentum({one.id: Watch(one.symbol.value, one, lookback) for one in instruments}, setup)
        engine.add_strategy(strategy)
        started, cpu_started = time.perf_counter(), time.process_time()
        engine.run()
        cpu_seconds.append(time.process_time() - cpu_started)
        seconds.append(time.perf_counter() - started)
        assert found in (None, strategy.entries), "two runs differ"
        found = strategy.entries
        fills, closed = strategy.fills, engine.cache.positions_closed_count()
        engine.dispose()
    return {
        "version": version("nautilus_trader"),
        "trades": len(ticks),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "entries": found,
        "fills": fills,
        "round_trips": closed,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]))))
