"""Trade ids are remembered, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ingest.recent import IN_ALL_MAX, PER_SYMBOL_MAX, PER_SYMBOL_MIN, RecentIds, memory_per_symbol


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 40), max_size=200), size=st.integers(1, 20))
def test_the_last_ids_are_known_and_memory_is_bounded(ids: list[int], size: int) -> None:
    recent = RecentIds(size)
    new: list[str] = []
    for number in ids:
        known = str(number) in new[-size:]
        if recent.add(str(number)):
            assert not known
            new.append(str(number))
        assert len(recent) <= 2 * size


@pytest.mark.parametrize(("symbols", "each"), [(1, PER_SYMBOL_MAX), (20, PER_SYMBOL_MAX), (400, 1_000), (2_000, 1_000)])
def test_memory_is_shared_among_the_symbols(symbols: int, each: int) -> None:
    assert memory_per_symbol(symbols) == each
    assert each == PER_SYMBOL_MIN or each * symbols <= IN_ALL_MAX
