"""When a position must be closed: its stop, its target, or its time.

The search begins at the fill's event time whenever the fill becomes known, and goes through the trades in the order of
the stream; so a late fill changes nothing about where the exit is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from apps.engine.events import Event, QuoteBlock, TradeBlock, Watermark
from apps.engine.model import Quote, RaisedExit
from apps.engine.tape import QuoteTape

STOP_LOSS: Final = "stop_loss"
TAKE_PROFIT: Final = "take_profit"
MAX_HOLDING: Final = "max_holding"


@dataclass(frozen=True, slots=True)
class ExitRule:
    """One open position. The stop is reached at or below `stop`, the target at or above `target` (ticks)."""

    position_id: int
    symbol: str
    opened_ts: int
    stop: int
    target: int
    due_ts: int


class ExitSearch:
    """Looks through entries for the first exit of one position. Feed it every entry from the trigger's on, in order.

    A time exit has no trade of its own: its price is that of the last trade before it, its trade id is empty.
    """

    def __init__(self, rule: ExitRule, *, last_price: int) -> None:
        """`last_price` (ticks) stands until a trade has been seen."""
        self.rule = rule
        self.quotes = QuoteTape()
        self._last_price = last_price

    def feed(self, entry_id: str, events: list[Event]) -> RaisedExit | None:
        for event in events:
            found = None
            if isinstance(event, TradeBlock) and event.symbol == self.rule.symbol:
                found = self._trades(entry_id, event)
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

    def _trades(self, entry_id: str, block: TradeBlock) -> RaisedExit | None:
        rule = self.rule
        for ts, price, trade_id in zip(block.ts_event, block.price, block.trade_id, strict=True):
            if ts >= rule.due_ts:
                return self._due(entry_id, block.ts_init)
            self._last_price = price
            if ts <= rule.opened_ts:
                continue
            if price <= rule.stop or price >= rule.target:
                reason = STOP_LOSS if price <= rule.stop else TAKE_PROFIT
                return RaisedExit(
                    rule.position_id, rule.symbol, reason, ts, trade_id, price,
                    self.quotes.at(ts), entry_id, block.ts_init,
                )  # fmt: skip
        return None

    def _watermark(self, entry_id: str, event: Watermark) -> RaisedExit | None:
        return self._due(entry_id, event.ts_init) if event.ts_event >= self.rule.due_ts else None

    def _due(self, entry_id: str, ts_init: int) -> RaisedExit:
        rule = self.rule
        return RaisedExit(
            rule.position_id, rule.symbol, MAX_HOLDING, rule.due_ts, "", self._last_price,
            self.quotes.at(rule.due_ts), entry_id, ts_init,
        )  # fmt: skip
