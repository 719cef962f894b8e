"""Which price the trades of a symbol confirm: one wild print changes nothing, three that agree within two seconds do.

Going through the trades in order, a price that is at most a tenth away from the confirmed one is confirmed itself. One
that is further away is a suspect: three of them within `WINDOW_MS` (event time), each at most a tenth from the newest,
confirm it; so do `RUN_MAX` suspects in a row of which each agrees with the one before it, however long they take, for
that is where a quiet market is now.

Openings are checked against what the last 64 trades confirm, of which the oldest is believed; exits against what the
trades since the fill confirm, where the fill's price is believed. Both take the same steps: `jumps` and `suspect`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numba
import numpy as np

JUMP: Final = 10  # further away than this part of the price it is compared with is a jump: 10 %
CONFIRMING: Final = 3
WINDOW_MS: Final = 2_000
RUN_MAX: Final = 64  # as many as the openings' window holds: it knows no older price then


class Suspects(NamedTuple):
    """The prints since the last confirmed one that may still be confirmed: event times in ms, prices in ticks, 0: none.

    Two are enough to remember, because a third that agrees confirms. `run` counts prints in a row, each at most a tenth
    from the one before it; 0 says that the last trade was confirmed.
    """

    run: int
    older_ts: int
    older: int
    newer_ts: int
    newer: int


NOBODY: Final = Suspects(0, 0, 0, 0, 0)


@numba.njit(cache=True)
def jumps(price: int, reference: int) -> bool:
    """Whether a price (ticks) is further than a tenth of `reference` away from it. Exact: no tick lies between."""
    reach = reference // JUMP
    return price > reference + reach or price < reference - reach


@numba.njit(cache=True)
def suspect(suspects: Suspects, ts: int, price: int) -> tuple[bool, Suspects]:
    """A print that jumps away from the confirmed price: (whether it is confirmed now, who is suspect after it)."""
    follows = suspects.newer > 0 and not jumps(suspects.newer, price)
    run = suspects.run + 1 if follows else 1
    newer = follows and abs(ts - suspects.newer_ts) <= WINDOW_MS
    older = suspects.older > 0 and abs(ts - suspects.older_ts) <= WINDOW_MS and not jumps(suspects.older, price)
    if (older and newer) or run >= RUN_MAX:
        return True, NOBODY
    if newer:
        return False, Suspects(run, suspects.newer_ts, suspects.newer, ts, price)
    if older:
        return False, Suspects(run, suspects.older_ts, suspects.older, ts, price)
    return False, Suspects(run, 0, 0, ts, price)


@numba.njit(cache=True)
def confirm_all(ts: Any, price: Any) -> int:
    """What int64 columns of times (ms) and prices (ticks) confirm, the first being believed; 0 for empty ones."""
    confirmed = 0
    suspects = NOBODY
    for row in range(ts.shape[0]):
        if confirmed > 0 and jumps(price[row], confirmed):
            sure, suspects = suspect(suspects, ts[row], price[row])
            if not sure:
                continue
        confirmed = price[row]
        suspects = NOBODY
    return confirmed


def confirmed_price(trades: Iterable[tuple[int, int]]) -> int | None:
    """The price in ticks that these trades, (event time in ms, ticks) in order, confirm; None without any."""
    rows = np.array(list(trades), dtype=np.int64).reshape(-1, 2)
    return int(confirm_all(rows[:, 0], rows[:, 1])) or None
