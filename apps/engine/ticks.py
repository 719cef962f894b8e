"""Which price the trades of a symbol confirm: one wild print changes nothing, three that agree within two seconds do.

Going through the trades in order, a price that is at most `JUMP` away from the confirmed one is confirmed itself. One
that is further away is a suspect: three of them within `WINDOW_MS` (event time), each at most `JUMP` from the newest,
confirm it. The first trade that is known is believed, because there is nothing to hold against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

JUMP: Final = (1, 10)  # a tenth of the smaller price, as a fraction: prices are whole ticks
CONFIRMING: Final = 3
WINDOW_MS: Final = 2_000


def jumps(price: int, other: int) -> bool:
    """Whether two prices (ticks) are further apart than `JUMP`."""
    numerator, denominator = JUMP
    low, high = min(price, other), max(price, other)
    return (high - low) * denominator > low * numerator


def confirmed_price(trades: Iterable[tuple[int, int]]) -> int | None:
    """The price in ticks that these trades, (event time in ms, ticks) in order, confirm; None without any."""
    confirmed: int | None = None
    suspects: list[tuple[int, int]] = []
    for ts, price in trades:
        if confirmed is None or not jumps(price, confirmed):
            confirmed = price
            suspects.clear()
            continue
        suspects = [(at, seen) for at, seen in suspects if ts - at <= WINDOW_MS and not jumps(seen, price)]
        suspects.append((ts, price))
        if len(suspects) >= CONFIRMING:
            confirmed = price
            suspects.clear()
    return confirmed
