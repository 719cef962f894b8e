"""Checking the trades and quotes of one decoded frame. Values in, values and complaints out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from apps.engine.events import BUY, SELL
from workers.ingest.decoder import Deal
from workers.ingest.numbers import BadNumber, to_units
from workers.ingest.symbols import QuoteTexts, SymbolState

TIME_MAX_MS: Final = 4_102_444_800_000  # the year 2100: later times are nonsense
AGE_MAX_MS: Final = 24 * 3600 * 1000  # a replay at 600 times the pace sends minutes in one frame, after a pause hours
LEAD_MAX_MS: Final = 5_000
TRADE_ID_LENGTH_MAX: Final = 64


class BadTrade(NamedTuple):
    """A refused trade; `time_ms` is 0 if its time is part of what is wrong."""

    reason: str
    time_ms: int


@dataclass(slots=True)
class CheckedTrades:
    """The good trades of a frame as columns in the frame's order, and what was wrong with the others."""

    ts_event: list[int] = field(default_factory=list)
    price: list[int] = field(default_factory=list)
    quantity: list[int] = field(default_factory=list)
    side: list[int] = field(default_factory=list)
    trade_id: list[str] = field(default_factory=list)
    bad: list[BadTrade] = field(default_factory=list)
    received: int = 0
    duplicates: int = 0


def check_trades(deals: Iterable[Deal], state: SymbolState, send_ms: int) -> CheckedTrades:
    """Check the deals of one frame sent at `send_ms` (0: the frame does not say).

    Rows without an id are kept even if they are equal: two genuine trades may agree in every field.
    """
    out = CheckedTrades()
    earliest = send_ms - AGE_MAX_MS if send_ms else 1
    latest = send_ms + LEAD_MAX_MS if send_ms else TIME_MAX_MS
    for time_ms, side, trade_id, price_text, quantity_text in deals:
        out.received += 1
        if not earliest <= time_ms <= latest or time_ms <= 0:
            out.bad.append(BadTrade("bad_time", 0))
            continue
        if side not in (BUY, SELL):
            out.bad.append(BadTrade("bad_side", time_ms))
            continue
        if len(trade_id) > TRADE_ID_LENGTH_MAX:
            out.bad.append(BadTrade("bad_trade_id", time_ms))
            continue
        try:
            price = to_units(price_text, state.price_decimals)
            quantity = to_units(quantity_text, state.quantity_decimals)
        except BadNumber as error:
            out.bad.append(BadTrade(error.reason, time_ms))
            continue
        if trade_id and not state.recent.add(trade_id):
            out.duplicates += 1
            continue
        out.ts_event.append(time_ms)
        out.price.append(price)
        out.quantity.append(quantity)
        out.side.append(side)
        out.trade_id.append(trade_id)
    return out


def check_quote(texts: QuoteTexts, state: SymbolState) -> tuple[int, int, int, int] | str:
    """Bid, bid quantity, ask, ask quantity in ticks and steps, or the reason why the quote is refused."""
    try:
        bid = to_units(texts[0], state.price_decimals)
        bid_quantity = to_units(texts[1], state.quantity_decimals)
        ask = to_units(texts[2], state.price_decimals)
        ask_quantity = to_units(texts[3], state.quantity_decimals)
    except BadNumber as error:
        return f"quote_{error.reason}"
    if bid >= ask:
        return "quote_crossed"
    return bid, bid_quantity, ask, ask_quantity
