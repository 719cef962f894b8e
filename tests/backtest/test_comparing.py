"""History beside a simulation: what is the same, what came, what went and what changed, whatever the order."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest.comparing import APPROVED, DENIED, Comparison, Decided, Outcome, compare, shared_key

ENTRY = Decided(
    "e:XRPUSDT:1000:9", 1_000, "XRPUSDT", "entry", APPROVED, (), Decimal(10), Decimal("0.27"), "10 at 0.26, fee 0.01"
)
EXIT = replace(ENTRY, key="x:e:XRPUSDT:1000:9:0", ts_event=9_000, kind="exit", outcome="10 at 0.25, fee 0.01")
LATER = replace(ENTRY, key="e:XRPUSDT:5000:12", ts_event=5_000)


def test_the_same_decisions_are_identical_in_whatever_order() -> None:
    found = compare([ENTRY, EXIT, LATER], [LATER, ENTRY, EXIT])
    assert found == Comparison(3, (), (), ())
    assert found.identical
    assert found.compared == 3
    assert found.first_difference == ""


def test_what_came_and_what_went_is_told_in_order_of_time() -> None:
    found = compare([EXIT, ENTRY], [LATER, replace(ENTRY, key="e:XRPUSDT:2000:10", ts_event=2_000)])
    assert [row.ts_event for row in found.added] == [2_000, 5_000]
    assert [row.ts_event for row in found.removed] == [1_000, 9_000]
    assert found.first_difference.startswith("only in history: XRPUSDT entry e:XRPUSDT:1000:9 approved, 10 at most at")


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("verdict", DENIED, "verdict was approved, would be denied"),
        ("reasons", ("CASH", "EXPOSURE"), "reasons was none, would be CASH, EXPOSURE"),
        ("quantity", Decimal("10.01"), "quantity was 10, would be 10.01"),
        ("limit_price", Decimal("0.2700000001"), "limit_price was 0.27, would be 0.2700000001"),
        ("outcome", "", "outcome was 10 at 0.26, fee 0.01, would be none"),
    ],
)
def test_one_part_that_differs_is_a_change_and_is_named(part: str, value: object, words: str) -> None:
    found = compare([EXIT, ENTRY], [EXIT, replace(ENTRY, **{part: value})])  # type: ignore[arg-type]
    assert (found.same, len(found.changed)) == (1, 1)
    assert found.changed[0].what == (part,)
    assert found.first_difference == f"XRPUSDT entry e:XRPUSDT:1000:9: {words}"


def test_where_a_decision_stands_is_no_part_of_what_it_is() -> None:
    assert compare([ENTRY], [replace(ENTRY, quantity=Decimal("10.00"))]).identical


def test_two_decisions_on_one_trigger_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"two decisions on one trigger: e:XRPUSDT:1000:9"):
        compare([ENTRY, EXIT, ENTRY], [])


@pytest.mark.parametrize(
    ("key", "shared"),
    [
        ("e:7:XRPUSDT:1000:9", "e:XRPUSDT:1000:9"),
        ("e:1234:XRPUSDT:1000:a:b", "e:XRPUSDT:1000:a:b"),
        ("x:e:7:XRPUSDT:1000:9:0", "x:e:XRPUSDT:1000:9:0"),
        ("x:12:0", "x:12:0"),
    ],
)
def test_a_trigger_is_known_without_the_version_that_saw_it(key: str, shared: str) -> None:
    assert shared_key(key) == shared


decisions = st.builds(
    Decided,
    key=st.integers(0, 12).map("e:XRPUSDT:{}:1".format),
    ts_event=st.integers(0, 12),
    symbol=st.just("XRPUSDT"),
    kind=st.just("entry"),
    verdict=st.sampled_from([APPROVED, DENIED]),
    quantity=st.sampled_from([Decimal(1), Decimal(2)]),
)
days = st.lists(decisions, unique_by=lambda row: row.key, max_size=8)


@settings(deadline=None, max_examples=60)
@given(days, days)
def test_every_decision_of_both_sides_is_counted_once_and_turning_the_sides_turns_the_answer(
    was: list[Decided], would: list[Decided]
) -> None:
    there, back = compare(was, would), compare(would, was)
    assert there.same + len(there.removed) + len(there.changed) == len(was)
    assert there.same + len(there.added) + len(there.changed) == len(would)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert [(row.was, row.would) for row in there.changed] == sorted(
        ((row.would, row.was) for row in back.changed), key=lambda pair: (pair[0].ts_event, pair[0].key)
    )
    assert there.identical == (there.first_difference == "")


def test_the_result_of_closed_round_trips_is_exact() -> None:
    closed = [(Decimal("1.1"), Decimal("0.1")), (Decimal("-0.3"), Decimal("0.1")), (Decimal(0), Decimal(0))]
    assert Outcome.of(closed) == Outcome(3, 1, Decimal("0.2"), Decimal("0.8"))
    assert Outcome.of([]).as_json() == {"round_trips": 0, "wins": 0, "fees": "0", "net": "0"}
