"""Reads what the ingest is asked to do, four times a second, and hands each part of it to whom it concerns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import redis

from apps.bus.orders import Doubt, FeedOrders, Repair, WantedSymbol, read_orders
from workers.ingest.config import SYMBOLS_MAX, Instrument, symbol_problem
from workers.ingest.tally import Tally

READ_SECONDS: Final = 0.25


class Commander(threading.Thread):
    """The wish is a level: whoever is called here gets the whole of it, again and again, and keeps what it has begun.

    `on_symbols` gets all symbols to follow whenever they changed, `on_doubts` each doubt once, `on_repairs` all minutes
    to be asked for, at every reading. All are called from this thread, and only while somebody wishes something.
    """

    def __init__(
        self,
        client: redis.Redis,
        epoch: int,
        tally: Tally,
        *,
        on_symbols: Callable[[Sequence[Instrument]], object],
        on_doubts: Callable[[Sequence[Doubt]], object],
        on_repairs: Callable[[list[Repair]], object],
    ) -> None:
        super().__init__(name="commander", daemon=True)
        self._client = client
        self._epoch = epoch
        self._tally = tally
        self._on_symbols = on_symbols
        self._on_doubts = on_doubts
        self._on_repairs = on_repairs
        self._symbols: list[WantedSymbol] | None = None
        self._declared: set[Doubt] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(READ_SECONDS):
            orders = read(self._client, self._epoch, self._tally)
            if orders is not None:
                self.obey(orders)

    def obey(self, orders: FeedOrders) -> None:
        """Pass the wish on."""
        if orders.symbols != self._symbols:
            self._symbols = orders.symbols
            self._on_symbols(instruments_of(orders, self._tally))
        doubts = set(orders.doubts)
        new = [doubt for doubt in orders.doubts if doubt not in self._declared]
        self._declared = doubts  # a doubt that was settled and comes back is a new one
        if new:
            self._on_doubts(new)
        self._on_repairs(orders.repairs)


def read(client: redis.Redis, epoch: int, tally: Tally) -> FeedOrders | None:
    """The present wish; None if there is none, or none that can be read now."""
    try:
        return read_orders(client, epoch)
    except redis.RedisError as error:
        tally.redis_errors["orders"] += 1
        tally.log.warn("redis_error", type(error).__name__, operation="orders", error=str(error))
    except msgspec.MsgspecError as error:
        tally.drop("bad_orders", error=str(error))
    return None


def instruments_of(orders: FeedOrders, tally: Tally) -> list[Instrument]:
    """The wanted symbols that can be subscribed: each once, well formed, 3,000 at most; the others are counted."""
    wanted: dict[str, Instrument] = {}
    for each in orders.symbols:
        try:
            instrument = msgspec.convert(msgspec.to_builtins(each), Instrument)
        except msgspec.ValidationError as error:
            tally.drop("bad_symbol", symbol=each.symbol[:40], error=str(error))
            continue
        problem = symbol_problem(instrument.symbol)
        if problem is not None:
            tally.drop("bad_symbol", symbol=each.symbol[:40], error=problem)
            continue
        if len(wanted) >= SYMBOLS_MAX:
            tally.drop("too_many_symbols", wanted=len(orders.symbols), most=SYMBOLS_MAX)
            break
        wanted.setdefault(instrument.symbol, instrument)
    return list(wanted.values())
