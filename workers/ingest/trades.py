"""Checking the trades and quotes of one decoded frame. Values in, values and complaints out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from apps.engine.events import BUY, SELL
from workers.ingest.decoder import Deal
from workers.ingest.numbers import BadNumber, known_units, to_units
from workers.ingest.symbols import QuoteTexts, SymbolState

TIME_MAX_MS: Final = 4_102_444_800_000  # the year 2100: later times are nonsense
AGE_MAX_MS: Final = 24 * 3600 * 1000  # a replay at 600 times the pace sends minutes in one frame, after a pause hours
LEAD_MAX_MS: Final = 5_000
TRADE_ID_LENGTH_MAX: Final = 64
_SIDES: Final = frozenset((BUY, SELL))


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
    bad: Sequence[BadTrade] = ()
    duplicates: int = 0


def check_trades(deals: Sequence[Deal], state: SymbolState, send_ms: int) -> CheckedTrades:
    """Check the deals of one frame sent at `send_ms` (0: the frame does not say).

    Rows without an id are kept even if they are equal: two genuine trades may agree in every field.
    """
    if not deals:
        return CheckedTrades()
    earliest = max(send_ms - AGE_MAX_MS, 1) if send_ms else 1
    latest = send_ms + LEAD_MAX_MS if send_ms else TIME_MAX_MS
    return _all_good(deals, state, earliest, latest) or _one_by_one(deals, state, earliest, latest)


def _all_good(deals: Sequence[Deal], state: SymbolState, earliest: int, latest: int) -> CheckedTrades | None:
    """The usual case column by column: every row is good, and its id is there and new. None if anything is not so."""
    times, sides, trade_ids, price_texts, quantity_texts = zip(*deals, strict=True)
    if min(times) < earliest or max(times) > latest or not _SIDES.issuperset(sides):
        return None
    if "" in trade_ids or max(map(len, trade_ids)) > TRADE_ID_LENGTH_MAX:
        return None
    decimals = state.quantity_decimals
    try:
        prices = [*map(known_units(state.price_decimals).__getitem__, price_texts)]
        quantities = [to_units(text, decimals) for text in quantity_texts]
    except BadNumber:
        return None
    if not state.recent.add_all(trade_ids):
        return None
    return CheckedTrades([*times], prices, quantities, [*sides], [*trade_ids])


def _one_by_one(deals: Sequence[Deal], state: SymbolState, earliest: int, latest: int) -> CheckedTrades:
    """The same rules for each row by itself, so that one bad row does not take the others with it."""
    bad: list[BadTrade] = []
    out = CheckedTrades(bad=bad)
    for time_ms, side, trade_id, price_text, quantity_text in deals:
        if not earliest <= time_ms <= latest:
            bad.append(BadTrade("bad_time", 0))
            continue
        if side not in (BUY, SELL):
            bad.append(BadTrade("bad_side", time_ms))
            continue
        if len(trade_id) > TRADE_ID_LENGTH_MAX:
            bad.append(BadTrade("bad_trade_id", time_ms))
            continue
        try:
            price = to_units(price_text, state.price_decimals)
            quantity = to_units(quantity_text, state.quantity_decimals)
        except BadNumber as error:
            bad.append(BadTrade(error.reason, time_ms))
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
