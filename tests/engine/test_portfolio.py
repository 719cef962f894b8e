"""Positions, ledger legs and exposure."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.money import fee_of, notional
from apps.engine.portfolio import (
    Fill,
    Holding,
    LegKind,
    PortfolioError,
    Side,
    after_fill,
    cash_change,
    deposit_legs,
    legs_of,
    opening_promise,
    stop_and_target,
    worth,
)

D = Decimal


def fill(side: str, quantity: str, price: str, fee: str = "0", currency: str = "USDT") -> Fill:
    return Fill(Side(side), D(price), D(quantity), D(fee), currency, 1)


def filled(holding: Holding, one: Fill, fee_price: Decimal | None = None) -> Holding:
    """A fill of XRPUSDT."""
    return after_fill(holding, one, base="XRP", quote="USDT", fee_price=fee_price)


def test_a_round_trip_realizes_the_difference_before_fees() -> None:
    holding = filled(Holding(), fill("BUY", "40", "0.5", "0.01"))
    assert (holding.quantity, holding.entry_price, holding.fees) == (D(40), D("0.5"), D("0.01"))
    holding = filled(holding, fill("SELL", "40", "0.55", "0.011"))
    assert (holding.quantity, holding.realized, holding.fees) == (D(0), D("2.00"), D("0.021"))
    assert holding.entry_quantity == D(40)


def test_entries_in_parts_average_and_exits_in_parts_realize_against_the_average() -> None:
    holding = Holding()
    for part in (fill("BUY", "10", "1.0"), fill("BUY", "30", "1.2"), fill("SELL", "15", "1.25")):
        holding = filled(holding, part)
    assert (holding.quantity, holding.entry_price, holding.realized) == (D(25), D("1.15"), D("1.5"))


@pytest.mark.parametrize("bad", [fill("SELL", "41", "1"), fill("BUY", "0", "1"), fill("SELL", "-1", "1")])
def test_a_fill_that_cannot_be_ours_is_refused(bad: Fill) -> None:
    held = filled(Holding(), fill("BUY", "40", "1"))
    with pytest.raises(PortfolioError):
        filled(held, bad)


AMOUNTS = st.decimals("0.01", "1e6", places=2)
FILLS = st.builds(
    Fill,
    side=st.sampled_from(Side),
    price=st.decimals("0.0001", "1e5", places=4),
    quantity=AMOUNTS,
    fee=st.decimals("0", "10", places=8),
    fee_currency=st.sampled_from(["USDT", "XRP", "MX"]),
    ts_event=st.just(1),
)


@given(st.lists(FILLS, max_size=20))
def test_a_position_is_the_signed_sum_of_its_trades_less_fees_in_the_coin_and_never_short(fills: list[Fill]) -> None:
    holding, total = Holding(), Fraction(0)
    for one in fills:
        try:
            holding = filled(holding, one)
        except PortfolioError:
            continue
        total += Fraction(one.quantity) if one.side is Side.BUY else -Fraction(one.quantity)
        if one.fee_currency == "XRP":
            due = Fraction(one.fee) if one.side is Side.SELL else min(Fraction(one.fee), Fraction(one.quantity))
            total = max(total - due, Fraction(0))
        assert Fraction(holding.quantity) == total >= 0


@given(st.lists(FILLS, max_size=20))
def test_what_was_paid_and_received_is_what_was_realized_what_is_held_has_cost_and_fees(fills: list[Fill]) -> None:
    """To the last digit, whatever the fees were paid in: no result appears or goes by rounding an average."""
    holding, cash, in_coin = Holding(), Fraction(0), Fraction(0)
    for one in fills:
        before = holding
        try:
            holding = filled(holding, one, fee_price=D(2))
        except PortfolioError:
            continue
        sign = 1 if one.side is Side.SELL else -1
        cash += sign * Fraction(one.price) * Fraction(one.quantity)
        moved = Fraction(holding.quantity) - Fraction(before.quantity) + sign * Fraction(one.quantity)
        in_coin += -moved * Fraction(one.price)  # what was taken from the position itself
    assert Fraction(holding.realized) - Fraction(holding.cost) == cash + in_coin
    if not holding.quantity:
        assert holding.cost == 0


@pytest.mark.parametrize(
    ("currency", "fee_price", "fees", "unvalued", "quantity"),
    [
        ("USDT", None, "0.3", (), "100"),
        ("XRP", None, "0.15", (), "99.7"),
        ("MX", "4", "1.2", (), "100"),
        ("MX", None, "0", (("MX", D("0.3")),), "100"),
    ],
)
def test_a_fee_counts_in_its_own_currency_and_is_named_where_it_has_no_price(
    currency: str, fee_price: str | None, fees: str, unvalued: tuple[tuple[str, Decimal], ...], quantity: str
) -> None:
    price = None if fee_price is None else D(fee_price)
    held = filled(Holding(), fill("BUY", "100", "0.5", "0.3", currency), price)
    assert (held.fees, held.unvalued, held.quantity) == (D(fees), unvalued, D(quantity))


def test_whatever_an_average_rounds_to_the_last_sale_leaves_no_cost_and_the_whole_gain() -> None:
    held = Holding()
    for part in (fill("BUY", "1", "1"), fill("BUY", "1", "1"), fill("BUY", "1", "2")):
        held = filled(held, part)
    for left in ("2.666666666666666667", "1.333333333333333333", "0"):
        held = filled(held, fill("SELL", "1", "2"))
        assert held.cost == D(left)
    assert held.realized == D(2)


def test_fees_without_a_price_add_up_by_coin() -> None:
    held = filled(Holding(), fill("BUY", "100", "0.5", "0.3", "MX"))
    held = filled(held, fill("SELL", "40", "0.6", "0.1", "KCS"))
    held = filled(held, fill("SELL", "60", "0.6", "0.2", "MX"))
    assert (held.unvalued, held.fees, held.realized) == ((("KCS", D("0.1")), ("MX", D("0.5"))), D(0), D(10))


def test_a_sale_whose_fee_is_taken_in_the_coin_leaves_that_much_less() -> None:
    held = filled(Holding(), fill("BUY", "100", "0.5"))
    held = filled(held, fill("SELL", "40", "0.6", "1", "XRP"))
    assert (held.quantity, held.cost, held.realized, held.fees) == (D(59), D("29.5"), D("4.1"), D("0.6"))


@given(FILLS)
def test_the_legs_of_a_fill_sum_to_zero_in_every_currency(one: Fill) -> None:
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for leg in legs_of(one, base="XRP", quote="USDT"):
        sums[leg.currency] += Fraction(leg.amount)
    assert set(sums.values()) == {Fraction(0)}


@given(FILLS)
def test_cash_moves_by_the_notional_and_by_a_fee_in_the_quote_currency(one: Fill) -> None:
    legs = legs_of(one, base="XRP", quote="USDT")
    sign = 1 if one.side is Side.SELL else -1
    expected = sign * Fraction(one.price) * Fraction(one.quantity)
    if one.fee_currency == "USDT":
        expected -= Fraction(one.fee)
    assert Fraction(cash_change(legs)) == expected
    assert sum(Fraction(leg.amount) for leg in legs if leg.kind is LegKind.FEE) == Fraction(one.fee)


def test_a_deposit_is_cash_against_capital() -> None:
    cash, capital = deposit_legs("USDT", D(100))
    assert (cash.kind, cash.amount, capital.kind, capital.amount) == (LegKind.CASH, D(100), LegKind.CAPITAL, D(-100))


@given(
    quantity=AMOUNTS,
    limit=st.integers(1, 10**6),
    better=st.integers(0, 10**6),
    rate=st.decimals("0", "0.01", places=5),
)
def test_what_is_reserved_covers_every_fill_at_the_limit_or_better(
    quantity: Decimal, limit: int, better: int, rate: Decimal
) -> None:
    price = D(max(limit - better, 1)).scaleb(-4)
    promise = opening_promise(quantity, D(limit).scaleb(-4), rate, "USDT")
    cost = notional(quantity, price)
    assert cost + fee_of(cost, rate) <= promise.amount
    assert cost <= promise.notional


def test_worth_names_the_symbols_it_has_no_price_for() -> None:
    holdings = [("XRPUSDT", D(10)), ("ADAUSDT", D(5)), ("XRPUSDT", D(2)), ("ZEROUSDT", D(0))]
    assert worth(holdings, {"XRPUSDT": D("0.5")}) == (D(6), ("ADAUSDT",))


def test_stop_and_target_are_percentages_of_the_entry() -> None:
    assert stop_and_target(D("0.5003"), D(2), D("4.5")) == (D("0.490294"), D("0.5228135"))
