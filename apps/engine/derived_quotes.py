"""Quotes of a tape on which none were recorded, derived from its trades as the local exchange derives them.

The rule is that of `apps/engine/quotes.py` (docs/exchange.md, "Quotes of a replay"), over columns: every change of the
top of the book carries the time of its own trade, only the last state of a millisecond counts, and a state that equals
the one before the millisecond is no change.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from apps.engine.tapes import Int64s, QuoteColumns, Tape

_BUY: Final = 1
# Places in the state: the last print of each side (0 ticks: none yet) and the quote in force (0: none yet).
_BUY_TICKS, _BUY_STEPS, _SELL_TICKS, _SELL_STEPS, _BID, _BID_STEPS, _ASK, _ASK_STEPS = range(8)
_PLACES: Final = 8


class QuoteDeriver:
    """One symbol's rule over successive slices of its trades. A millisecond should not lie in two slices: it is then
    told twice if the quote changed in both, the later row being the one in force."""

    def __init__(self) -> None:
        self._state = np.zeros(_PLACES, np.int64)

    def copy(self) -> QuoteDeriver:
        """One that goes on from where this one stands."""
        other = QuoteDeriver()
        other._state[:] = self._state
        return other

    def feed(self, tape: Tape) -> QuoteColumns:
        """The changes that the next trades make, oldest first. `tape` must hold what `Tape.check` allows."""
        columns = [np.empty(len(tape), np.int64) for _ in range(5)]
        count = _derive(tape.ts, tape.price, tape.quantity, tape.side, self._state, *columns)
        # A quote stands still at most prints of a quiet market: what is kept for long should not carry the rest.
        return QuoteColumns(*(column[:count].copy() for column in columns))


def derive_quotes(tape: Tape) -> QuoteColumns:
    """The quotes of a whole tape: what the local exchange sends in a replay of these trades."""
    return QuoteDeriver().feed(tape)


@numba.njit(cache=True)
def _derive(
    ts: Int64s,
    price: Int64s,
    quantity: Int64s,
    side: Any,
    state: Int64s,
    out_ts: Int64s,
    bid: Int64s,
    bid_quantity: Int64s,
    ask: Int64s,
    ask_quantity: Int64s,
) -> int:
    """Write each change's row and return how many there are; `state` is left as it stands after the last trade."""
    count = 0
    row = 0
    rows = len(ts)
    before = np.zeros(4, np.int64)
    while row < rows:
        now = ts[row]
        before[:] = state[_BID : _ASK_STEPS + 1]
        while row < rows and ts[row] == now:
            _print(state, side[row], price[row], quantity[row])
            row += 1
        if (
            state[_BID] != before[0]
            or state[_BID_STEPS] != before[1]
            or state[_ASK] != before[2]
            or state[_ASK_STEPS] != before[3]
        ):
            out_ts[count] = now
            bid[count] = state[_BID]
            bid_quantity[count] = state[_BID_STEPS]
            ask[count] = state[_ASK]
            ask_quantity[count] = state[_ASK_STEPS]
            count += 1
    return count


@numba.njit(cache=True, inline="always")
def _print(state: Int64s, side: int, price: int, quantity: int) -> None:
    """One more print. The newest is believed; the other side stands where it last printed, or one tick away."""
    if side == _BUY:
        state[_BUY_TICKS] = price
        state[_BUY_STEPS] = quantity
        bid = price - 1
        if 0 < state[_SELL_TICKS] < bid:
            bid = state[_SELL_TICKS]
        if bid > 0:
            state[_BID] = bid
            state[_BID_STEPS] = state[_SELL_STEPS] if state[_SELL_STEPS] > 0 else quantity
            state[_ASK] = price
            state[_ASK_STEPS] = quantity
    else:
        state[_SELL_TICKS] = price
        state[_SELL_STEPS] = quantity
        state[_BID] = price
        state[_BID_STEPS] = quantity
        state[_ASK] = max(state[_BUY_TICKS], price + 1)
        state[_ASK_STEPS] = state[_BUY_STEPS] if state[_BUY_STEPS] > 0 else quantity
