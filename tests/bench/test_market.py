"""The benchmarks' market is one that a feed could have given, the same every time; a difference of entries is named."""

from __future__ import annotations

import numpy as np
import pytest

from apps.market.archive.reading import ROWS_MAX
from apps.market.archive.tables import GROUP_ROWS
from tests.bench import lengthen
from tests.bench.beside import PeerError, compare_entries
from tests.bench.market import START_MS, Market, merged


def test_slices_follow_one_another_and_hold_what_a_feed_could_have_given() -> None:
    market, end_ms, number = Market(3), START_MS, 1
    for minutes in (9, 18):
        tapes = market.slice(minutes)
        assert list(tapes) == market.names
        for tape in tapes.values():
            tape.check()
            assert len(tape) == minutes * 625 // 9
            assert tape.ts[0] >= end_ms
            assert tape.trade_id[0] == str(number)
        end_ms += minutes * 60_000
        assert all(tape.ts[-1] < end_ms for tape in tapes.values())
        number += minutes * 625 // 9


def test_the_same_seed_gives_the_same_trades_and_another_one_others() -> None:
    first, again, other = (Market(2, seed).slice(9)["S0001USDT"] for seed in (1, 1, 2))
    assert np.array_equal(first.price, again.price)
    assert np.array_equal(first.ts, again.ts)
    assert not np.array_equal(first.price, other.price)


def test_merged_trades_are_in_order_of_time_and_keep_their_ids() -> None:
    tapes = Market(3).slice(9)
    rows = merged(tapes)
    assert (np.diff(rows["ts"]) >= 0).all()
    for place, tape in enumerate(tapes.values()):
        own = rows["symbol"] == place
        assert np.array_equal(rows["price"][own], tape.price)
        assert rows["number"][own].tolist() == [int(tape.trade_id[row]) for row in range(len(tape))]


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ([("A", 1, "1")], "2 entries here, 1 there"),
        ([("A", 1, "1"), ("A", 4, "3")], r"entry 2 is \('B', 3, '2'\) here and \('A', 4, '3'\) there"),
    ],
)
def test_the_first_entry_that_differs_is_named(theirs: list[tuple[str, int, str]], words: str) -> None:
    ours = [("A", 1, "1"), ("B", 3, "2")]
    compare_entries(ours, ours[::-1])
    with pytest.raises(PeerError, match=words):
        compare_entries(ours, theirs)


def test_slices_of_many_symbols_are_as_large_as_those_that_the_archive_gives() -> None:
    assert (lengthen.SLICE_TRADES, lengthen.SYMBOL_TRADES) == (ROWS_MAX, GROUP_ROWS // 2)
