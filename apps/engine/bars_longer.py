"""Bars of 5 minutes, 15 minutes and an hour, put together from closed one-minute bars.

A longer bar is at every moment what its minutes are, so no batch split can change it, and whatever befalls one of its
minutes (a late trade, a repair, a carried close, a mark of the coverage ledger) befalls it in the same transaction:

* It begins at a whole multiple of its length since 1970 and exists from the moment at which its last minute closed.
* Open, high, low and close are those of its minutes with trades: the first one's open, the last one's close. Without
  any it is flat at its last minute's close. Volume, turnover, count and the trades' hashes are sums.
* Its revisions are those of its minutes, and it counts which of them are PROVEN, BACKFILLED and UNPROVEN. Minutes
  without a bar (the symbol had no price yet) are none of the three: the counts then add up to less than its length.

Numbers are whole ticks and steps, or decimals: nothing here rounds. Sums of decimals need a wide enough context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Generic, TypeVar

LENGTHS: Final = (5, 15, 60)  # minutes
PARTS: Final = {5: 1, 15: 5, 60: 15}  # length -> length of the bars that it is put together from
HASH_MODULUS: Final = 2**64

Number = TypeVar("Number", int, Decimal)


@dataclass(frozen=True, slots=True)
class Span(Generic[Number]):
    """A bar of any length. `minute` is its first one, `hash_sum` the sum of its trades' hashes modulo 2^64."""

    minute: int
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    turnover: Number
    count: int
    first_trade_id: str
    last_trade_id: str
    hash_sum: int
    revision: int
    proven: int
    backfilled: int
    unproven: int


def start_of(minute: int, length: int) -> int:
    """The first minute of the bar of this length that holds `minute`."""
    return minute - minute % length


def is_last(minute: int, length: int) -> bool:
    """Whether a bar of this length ends with `minute`."""
    return minute % length == length - 1


def joined(minute: int, parts: Sequence[Span[Number]]) -> Span[Number]:
    """The bar that begins with `minute` and is made of `parts`: neighbours, oldest first, at least one."""
    traded = [part for part in parts if part.volume]
    first, last = (traded[0], traded[-1]) if traded else (parts[-1], parts[-1])
    return Span(
        minute=minute,
        open=first.open if traded else last.close,
        high=max(part.high for part in traded) if traded else last.close,
        low=min(part.low for part in traded) if traded else last.close,
        close=last.close,
        volume=_total([part.volume for part in parts]),
        turnover=_total([part.turnover for part in parts]),
        count=sum(part.count for part in parts),
        first_trade_id=_first(part.first_trade_id for part in parts),
        last_trade_id=_first(part.last_trade_id for part in reversed(parts)),
        hash_sum=sum(part.hash_sum for part in parts) % HASH_MODULUS,
        revision=sum(part.revision for part in parts),
        proven=sum(part.proven for part in parts),
        backfilled=sum(part.backfilled for part in parts),
        unproven=sum(part.unproven for part in parts),
    )


def _total(numbers: Sequence[Number]) -> Number:
    total = numbers[0]
    for number in numbers[1:]:
        total += number
    return total


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def longer(parts: Mapping[int, Span[Number]], *, part: int, length: int) -> dict[int, Span[Number]]:
    """Every bar of `length` minutes that has ended, by its first minute; `parts` are bars of `part` minutes by theirs.

    Parts may be missing at the beginning of a bar, but a bar whose last part is missing has not ended.
    """
    starts = {start_of(minute, length) for minute in parts}
    return {
        start: joined(start, [parts[minute] for minute in range(start, start + length, part) if minute in parts])
        for start in sorted(starts)
        if start + length - part in parts
    }
