"""What a decision says would have passed, passes, and one unit more does not."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.engine.desk.deciding import check_row
from apps.engine.money import exact
from apps.engine.risk.assessment import Assessment, Ruling, assess
from apps.engine.risk.values import Outcome, Reason, View
from apps.engine.risk.words import NARROW_SPACE
from tests.engine.risk_cases import LIMITS, OPENING, REDUCING, TABLE, VIEW, changed

D = Decimal
CENT = D("0.01")
CENTS = st.decimals("0.01", "1e7", places=2)


def asked(view: View, quantity: Decimal) -> Assessment:
    """An order of this many at a price of 1, so that its notional is its quantity; what it needs is a little more."""
    return assess(replace(OPENING, quantity=quantity), replace(view, needed_cash=quantity), LIMITS)


@exact
def apart(value: str, limit: str) -> Decimal:
    return D(limit) - D(value)


def way_out(assessment: Assessment) -> Decimal | None:
    """How much less would pass, by the sentence of the first check that failed; None if none would."""
    found = re.search(r"\. ([0-9][0-9. ]*) USDT less would pass", assessment.sentence.replace(NARROW_SPACE, " "))
    return None if found is None else D(found[1].replace(" ", ""))


@given(
    quantity=CENTS, equity=CENTS, exposure=CENTS, of_symbol=CENTS, free=CENTS, cap=st.none() | CENTS,
    fractions_of_cents=st.decimals("0", "0.01", places=6),
)  # fmt: skip
def test_less_by_what_was_said_passes_that_check_and_one_cent_more_does_not(
    quantity: Decimal,
    equity: Decimal,
    exposure: Decimal,
    of_symbol: Decimal,
    free: Decimal,
    cap: Decimal | None,
    fractions_of_cents: Decimal,
) -> None:
    view = replace(
        VIEW, equity=equity, exposure=exposure + fractions_of_cents, symbol_exposure=of_symbol, free_cash=free,
        order_cap=cap, day_start_equity=equity, peak_equity=equity, notional_min=D(0), quantity_min=D(0),
    )  # fmt: skip
    denied = asked(view, quantity)
    assume(denied.ruling is Ruling.DENIED)
    first, less = denied.reasons[0], way_out(denied)
    if less is None:
        assert first in asked(view, CENT).reasons, "no order would pass"
        return
    assert first not in asked(view, quantity - less).reasons
    assert first in asked(view, quantity - less + CENT).reasons


@given(quantity=CENTS, equity=CENTS, exposure=CENTS, of_symbol=CENTS, free=CENTS)
def test_the_stored_margin_is_what_an_order_may_still_grow_by_and_no_more(
    quantity: Decimal, equity: Decimal, exposure: Decimal, of_symbol: Decimal, free: Decimal
) -> None:
    view = replace(
        VIEW, equity=equity, exposure=exposure, symbol_exposure=of_symbol, free_cash=free, day_start_equity=equity,
        peak_equity=equity,
    )  # fmt: skip
    for verdict in asked(view, quantity).verdicts:
        if verdict.reason in (Reason.FAT_FINGER, Reason.POSITION_LIMIT, Reason.EXPOSURE, Reason.CASH):
            margin = D(check_row(verdict)["margin"])
            assert (margin >= 0) is (verdict.outcome is Outcome.PASSED)
            if quantity + margin > 0:
                assert verdict.reason not in asked(view, quantity + margin).reasons
                assert verdict.reason in asked(view, quantity + margin + CENT).reasons


@pytest.mark.parametrize(("reason", "changes"), [(row[0], row[1]) for row in TABLE])
def test_every_stored_check_has_its_input_its_limit_its_verdict_and_how_far_they_are_apart(
    reason: str, changes: dict[str, object]
) -> None:
    for order in (OPENING, REDUCING):
        intent, view = changed(order, changes)
        verdict = next(row for row in assess(intent, view, LIMITS).verdicts if row.reason == reason)
        row = check_row(verdict)
        assert set(row) == {"code", "value", "limit", "margin", "left", "passed", "note"}
        assert (row["margin"] is None) is (row["value"] is None or row["limit"] is None)
        if row["margin"] is not None:
            ends = (row["limit"], row["value"]) if reason == Reason.MIN_NOTIONAL else (row["value"], row["limit"])
            assert D(row["margin"]) == apart(*ends)
        if row["left"] is not None:
            assert D(row["left"]) <= 1


def test_the_margin_of_the_smallest_order_counts_upwards() -> None:
    verdict = next(
        row for row in assess(replace(OPENING, quantity=D(3)), VIEW, LIMITS).verdicts if row.reason == "MIN_NOTIONAL"
    )
    assert check_row(verdict)["margin"] == "-2"
