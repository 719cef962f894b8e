"""When a position must be closed: its stop, its trailing stop, its target, its time, or its strategy's word.

The search begins at the fill's event time whenever the fill becomes known, and goes through the trades in the order of
the stream; so a late fill changes nothing about where the exit is found. The rules and their order are those of
`apps.engine.exit_kernel`, which live trading, paper and every simulation share. A signal of the strategy that its
entries' reason is gone (`ExitCall`) counts after all of them on its own trade, and closes what was opened before it.

A price that nothing confirms (`apps.engine.ticks`) ends nothing and raises no trailing stop: it may be one wild print.
An exit signal on such a trade counts on the next trade that is believed.

After an exit that ended without a fill the search goes on at trades from `retry_ts` on; what the price reached in the
meantime still raises the trailing stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from apps.engine.events import Event, QuoteBlock, TradeBlock, Watermark
from apps.engine.exit_kernel import (
    CALLED,
    DUE,
    NOT_FOUND,
    REASONS,
    Bounds,
    Watch,
    find_exit,
    price_in_force,
    watch_from,
)
from apps.engine.model import Quote, RaisedExit
from apps.engine.tape import QuoteTape
from apps.engine.tapes import Int64s

STOP_LOSS: Final = "stop_loss"
TRAILING_STOP: Final = "trailing_stop"
TAKE_PROFIT: Final = "take_profit"
MAX_HOLDING: Final = "max_holding"
EXIT_SIGNAL: Final = "exit_signal"


@dataclass(frozen=True, slots=True)
class ExitRule:
    """One open position. The stop is reached at or below `stop`, the target at or above `target` (ticks, 0: none).

    `trailing` is in parts of `exit_kernel.TRAILING_ONE` (0: off), `version_id` whose exit signals close it, if
    `on_signal`. `retry_ts` (event time, ms) is when an exit may be found again after one that failed; 0: none has.
    """

    position_id: int
    symbol: str
    opened_ts: int
    stop: int
    target: int
    due_ts: int
    trailing: int = 0
    retry_ts: int = 0
    version_id: int = 0
    on_signal: bool = True

    @property
    def bounds(self) -> Bounds:
        """What the compiled search compares with."""
        return Bounds(self.opened_ts, self.stop, self.target, self.trailing, self.due_ts, self.retry_ts)


@dataclass(frozen=True, slots=True)
class ExitCall:
    """On this trade (its id, or `#n` as the n-th of its millisecond in its block) a strategy said: sell."""

    ts_event: int
    trade_id: str


class ExitSearch:
    """Looks through entries for the first exit of one position. Feed it every entry from the trigger's on, in order.

    A time exit has no trade of its own: its price is that of the last trade before it, its trade id is empty.
    """

    def __init__(self, rule: ExitRule, *, last_price: int, watch: Watch | None = None) -> None:
        """`last_price` (ticks) is the entry's, and stands until a trade has been seen.

        A search that goes on where another one was takes both from it.
        """
        self.rule = rule
        self.quotes = QuoteTape()
        self.last_price = last_price
        self.watch = watch_from(last_price) if watch is None else watch
        self._token: int | None = None
        self._ordinal = 0

    def follow_on(self, token: int | None, ordinal: int) -> None:
        """The last trade that was seen before has this ordinal under this token: what repeats it is passed over."""
        self._token, self._ordinal = token, ordinal

    def feed(self, entry_id: str, events: list[Event], calls: Iterable[ExitCall] = ()) -> RaisedExit | None:
        """The position's exit, if it lies in this entry. `calls` are those that the entry's trades gave."""
        for event in events:
            found = None
            if isinstance(event, TradeBlock) and event.symbol == self.rule.symbol:
                found = self._trades(entry_id, event, calls)
            elif isinstance(event, QuoteBlock) and event.symbol == self.rule.symbol:
                self._quotes(event)
            elif isinstance(event, Watermark) and self.rule.symbol in event.ordinals:
                found = self._watermark(entry_id, event)
            if found:
                return found
        return None

    def _quotes(self, block: QuoteBlock) -> None:
        columns = (block.ts_event, block.bid, block.bid_quantity, block.ask, block.ask_quantity)
        for values in zip(*columns, strict=True):
            self.quotes.add(Quote(*values))

    def _trades(self, entry_id: str, block: TradeBlock, calls: Iterable[ExitCall]) -> RaisedExit | None:
        skip = self._repeats(block)
        ts = np.array(block.ts_event[skip:], dtype=np.int64)
        price = np.array(block.price[skip:], dtype=np.int64)
        row, code, names = 0, NOT_FOUND, {}
        for index, call in self._called(block, skip, calls):
            row, code = self._find(ts[:index], price[:index], row)
            if code != NOT_FOUND:
                break
            self.watch, names[index] = self.watch._replace(called_ts=call.ts_event), call.trade_id
        if code == NOT_FOUND:
            row, code = self._find(ts, price, row)
        if code == NOT_FOUND:
            return None
        if code == DUE:
            return self._due(entry_id, block.ts_init)
        named = names.get(row) if code == CALLED else None
        return self._raise(entry_id, block, row + skip, REASONS[code], named or block.trade_id[row + skip])

    def _repeats(self, block: TradeBlock) -> int:
        """How many of the block's first trades were seen before: a trailing stop must not meet an old price anew."""
        if block.token != self._token:
            self._token, self._ordinal = block.token, block.ordinal - 1
        skip = min(max(self._ordinal + 1 - block.ordinal, 0), len(block.ts_event))
        self._ordinal = max(self._ordinal, block.ordinal + len(block.ts_event) - 1)
        return skip

    def _find(self, ts: Int64s, price: Int64s, start: int) -> tuple[int, int]:
        """(row, code) as `find_exit` gives them, from a row on."""
        row, code, self.watch = find_exit(ts, price, start, self.rule.bounds, self.watch)
        if row:
            self.last_price = int(price[row - 1])
        return row, code

    def _called(self, block: TradeBlock, skip: int, calls: Iterable[ExitCall]) -> list[tuple[int, ExitCall]]:
        """The calls that concern this position, with their rows after the repeats, in order of rows."""
        rule, found = self.rule, []
        for call in calls:
            timely = max(rule.opened_ts + 1, rule.retry_ts) <= call.ts_event < rule.due_ts
            index = _row_of(block, call)
            if rule.on_signal and timely and index is not None and index >= skip:
                found.append((index - skip, call))
        return sorted(found, key=lambda item: item[0])

    def _watermark(self, entry_id: str, event: Watermark) -> RaisedExit | None:
        return self._due(entry_id, event.ts_init) if event.ts_event >= self.rule.due_ts else None

    def _raise(self, entry_id: str, block: TradeBlock, index: int, reason: str, trade_id: str) -> RaisedExit:
        rule, ts = self.rule, block.ts_event[index]
        return RaisedExit(
            rule.position_id, rule.symbol, reason, ts, trade_id, block.price[index], self.quotes.at(ts), entry_id,
            block.ts_init, block.price[index], self.watch.confirmed if self.watch.suspects.run else None,
        )  # fmt: skip

    def _due(self, entry_id: str, ts_init: int) -> RaisedExit:
        rule = self.rule
        return RaisedExit(
            rule.position_id, rule.symbol, MAX_HOLDING, rule.due_ts, "", self.last_price,
            self.quotes.at(rule.due_ts), entry_id, ts_init, price_in_force(self.watch, self.last_price),
        )  # fmt: skip


def _row_of(block: TradeBlock, call: ExitCall) -> int | None:
    """The row of the call's trade; None if the block does not hold it."""
    rows = [index for index, ts in enumerate(block.ts_event) if ts == call.ts_event]
    named = [index for index in rows if block.trade_id[index] == call.trade_id]
    if named:
        return named[0]
    number = int(call.trade_id[1:]) if call.trade_id.startswith("#") else len(rows)
    return rows[number] if number < len(rows) else None
