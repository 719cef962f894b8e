"""Trade ids are remembered, in bounded memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ingest.recent import IdMemory

ROWS = st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 40), min_size=1, max_size=4)), max_size=120)


@settings(deadline=None)
@given(rows=ROWS, size=st.integers(1, 20))
def test_the_last_ids_of_all_symbols_are_known_and_memory_is_bounded(
    rows: list[tuple[int, list[int]]], size: int
) -> None:
    memory = IdMemory(size)
    symbols = [memory.member() for _ in range(3)]
    new: list[tuple[int, int]] = []
    for symbol, numbers in rows:
        for number in numbers:
            known = (symbol, number) in new[-size:]
            if symbols[symbol].add(str(number)):
                assert not known
                new.append((symbol, number))
            assert len(memory) <= 2 * size


@settings(deadline=None)
@given(rows=ROWS)
def test_several_at_once_are_taken_only_if_all_are_new(rows: list[tuple[int, list[int]]]) -> None:
    memory = IdMemory(10_000)
    symbols = [memory.member() for _ in range(3)]
    seen: set[tuple[int, int]] = set()
    for symbol, numbers in rows:
        pairs = [(symbol, number) for number in numbers]
        expected = len(set(pairs)) == len(pairs) and seen.isdisjoint(pairs)
        assert symbols[symbol].add_all([str(number) for number in numbers]) is expected
        if expected:
            seen.update(pairs)
    assert len(memory) == len(seen)


def test_a_quiet_symbol_is_forgotten_when_the_others_have_filled_the_memory_twice() -> None:
    memory = IdMemory(100)
    quiet, busy = memory.member(), memory.member()
    assert quiet.add("a")
    for number in range(200):
        busy.add(str(number))
    assert len(quiet) == 0
    assert not busy.add("199")
    assert not busy.add("100")
