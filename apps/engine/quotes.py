"""The quote rule of a replay: a top of book derived from the last buy and the last sell print.

A recording holds trades only. The ask is the price of the last print whose aggressor bought, the bid the price of the
last print whose aggressor sold; the sizes are the quantities of those prints. The print that came last is always
believed. The other side gives way when it would touch or cross it, or has not printed yet: it then stands one tick
away, with its own last size, or with the newest print's quantity if it has none. No bid can stand at or below zero:
such a print changes no quote (the one in force stays, if there is one).

Quotes made by this rule are synthetic and are labelled so wherever they are shown.
"""

from __future__ import annotations

from typing import Final, NamedTuple

BUY: Final = 1
SELL: Final = 2


class Quote(NamedTuple):
    """Best bid and offer; prices in ticks, sizes in quantity steps. Always 0 < bid_ticks < ask_ticks."""

    bid_ticks: int
    bid_steps: int
    ask_ticks: int
    ask_steps: int


class QuoteState(NamedTuple):
    """The last print of each aggressor side (0 ticks: none yet) and the quote in force."""

    buy_ticks: int
    buy_steps: int
    sell_ticks: int
    sell_steps: int
    quote: Quote | None


EMPTY: Final = QuoteState(0, 0, 0, 0, None)


def derive(state: QuoteState, side: int, price_ticks: int, quantity_steps: int) -> QuoteState:
    """The state after one more print; `side` is the aggressor's (BUY or SELL), price and quantity are positive."""
    _, _, sell_ticks, sell_steps, quote = state
    if side == BUY:
        bid_ticks = price_ticks - 1
        if 0 < sell_ticks < bid_ticks:
            bid_ticks = sell_ticks
        if bid_ticks > 0:
            quote = Quote(bid_ticks, sell_steps or quantity_steps, price_ticks, quantity_steps)
        return QuoteState(price_ticks, quantity_steps, sell_ticks, sell_steps, quote)
    buy_ticks, buy_steps = state.buy_ticks, state.buy_steps
    ask_ticks = max(buy_ticks, price_ticks + 1)
    quote = Quote(price_ticks, quantity_steps, ask_ticks, buy_steps or quantity_steps)
    return QuoteState(buy_ticks, buy_steps, price_ticks, quantity_steps, quote)
