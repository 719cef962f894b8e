"""Work whose results only grow runs without the collector of cycles, and leaves nothing for it to do."""

from __future__ import annotations

import gc

import pytest

from apps.engine.memory import uncollected
from tests.engine.simulations import setup, simulate, walk


@uncollected
def is_collecting(*, fails: bool = False) -> bool:
    if fails:
        raise ValueError("work that fails")
    return gc.isenabled()


def test_the_collector_rests_during_the_work_and_goes_on_afterwards() -> None:
    assert gc.isenabled()
    assert not is_collecting()
    assert gc.isenabled()


def test_it_goes_on_after_work_that_failed() -> None:
    with pytest.raises(ValueError, match="work that fails"):
        is_collecting(fails=True)
    assert gc.isenabled()


def test_it_stays_off_for_a_caller_that_had_switched_it_off() -> None:
    gc.disable()
    try:
        assert not is_collecting()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_simulation_leaves_no_cycles_behind() -> None:
    tapes = {"AAAUSDT": walk("AAAUSDT", 1, minutes=60)}
    made = setup(["AAAUSDT"])
    simulate(made, tapes)  # compiles; whatever that leaves is not a simulation's
    gc.collect()
    trips = 0
    for _ in range(3):
        trips += len(simulate(made, tapes).round_trips)
    assert trips
    assert gc.collect() == 0
