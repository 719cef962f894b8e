"""Quotes of a tape on which none were recorded, derived from its trades as the local exchange derives them.

The rule is that of `apps/engine/quotes.py` (docs/exchange.md, "Quotes of a replay"), over columns: every change of the
top of the book carries the time of its own trade, only the last state of a millisecond counts, and a state that equals
the one before the millisecond is no change.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from apps.engine.model import Quote
from apps.engine.tapes import Int64s, QuoteColumns, Tape

_BUY: Final = 1
# Places in the state: the last print of each side (0 ticks: none yet) and the quote in force (0: none yet).
_BUY_TICKS, _BUY_STEPS, _SELL_TICKS, _SELL_STEPS, _BID, _BID_STEPS, _ASK, _ASK_STEPS = range(8)
_PLACES: Final = 8
_NEVER: Final = -1  # no event time
_LOOK_BACK: Final = 64  # rows that are looked at first; doubled until they decide


class QuoteDeriver:
    """One symbol's rule over successive slices of its trades. A millisecond should not lie in two slices: it is then
    told twice if the quote changed in both, the later row being the one in force."""

    def __init__(self) -> None:
        self._state = np.zeros(_PLACES, np.int64)

    def last(self, tape: Tape, ts_event: int) -> Quote | None:
        """The last change up to `ts_event` that the next trades make; None: none. Nothing is gone on with.

        As the last row of `feed`, from as few trades as decide it: what happened before both sides printed in an
        earlier millisecond is forgotten by the rule.
        """
        found = _last_change(tape.ts, tape.price, tape.quantity, tape.side, self._state, ts_event)
        return Quote(*found) if found[0] != _NEVER else None

    def skip(self, tape: Tape) -> None:
        """Go on as `feed` does, without its changes: so only the newest trades must be looked at."""
        _skip(tape.ts, tape.price, tape.quantity, tape.side, self._state)

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


@numba.njit(cache=True)
def _begins(ts: Int64s, side: Any, end: int, back: int) -> tuple[int, int]:
    """The row with which the millisecond of row `end - back` begins, and the event time by which both sides have
    printed from there on (`_NEVER`: one has not)."""
    first = end - back
    while first > 0 and ts[first - 1] == ts[end - back]:
        first -= 1
    bought = sold = False
    for row in range(first, end):
        if side[row] == _BUY:
            bought = True
        else:
            sold = True
        if bought and sold:
            return first, ts[row]
    return first, _NEVER


@numba.njit(cache=True)
def _go_on(
    ts: Int64s, price: Int64s, quantity: Int64s, side: Any, first: int, end: int, state: Int64s
) -> tuple[int, int, int, int, int]:
    """The last change that rows `first`..`end` - 1 make, as the five values of a quote, its time `_NEVER` if none."""
    changed, bid, bid_steps, ask, ask_steps = _NEVER, 0, 0, 0, 0
    row = first
    while row < end:
        now = ts[row]
        before = (state[_BID], state[_BID_STEPS], state[_ASK], state[_ASK_STEPS])
        while row < end and ts[row] == now:
            _print(state, side[row], price[row], quantity[row])
            row += 1
        after = (state[_BID], state[_BID_STEPS], state[_ASK], state[_ASK_STEPS])
        if after != before:
            changed = now
            bid, bid_steps, ask, ask_steps = after
    return changed, bid, bid_steps, ask, ask_steps


@numba.njit(cache=True)
def _last_change(
    ts: Int64s, price: Int64s, quantity: Int64s, side: Any, begun: Int64s, ts_event: int
) -> tuple[int, int, int, int, int]:
    """See `QuoteDeriver.last`."""
    end = int(np.searchsorted(ts, ts_event, side="right"))
    state = np.zeros(_PLACES, np.int64)
    back = _LOOK_BACK
    while back < end:
        first, known = _begins(ts, side, end, back)
        if known != _NEVER:
            found = _go_on(ts, price, quantity, side, first, end, state)
            if found[0] > known:
                return found
            state[:] = 0
        back *= 2
    state[:] = begun
    return _go_on(ts, price, quantity, side, 0, end, state)


@numba.njit(cache=True)
def _skip(ts: Int64s, price: Int64s, quantity: Int64s, side: Any, state: Int64s) -> None:
    """See `QuoteDeriver.skip`."""
    end = len(ts)
    back = _LOOK_BACK
    while back < end:
        first, known = _begins(ts, side, end, back)
        if known != _NEVER and known < ts[end - 1]:
            state[:] = 0
            _go_on(ts, price, quantity, side, first, end, state)
            return
        back *= 2
    _go_on(ts, price, quantity, side, 0, end, state)
