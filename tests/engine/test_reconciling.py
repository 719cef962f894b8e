"""Equal books have no difference; whatever is changed in one of them is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.reconciling import (
    Correction,
    Kind,
    OrderFacts,
    TradeFacts,
    compare_balances,
    compare_orders,
    compare_trades,
    explained,
)

D = Decimal
amounts = st.decimals(min_value="0.000001", max_value="1000000", places=6)
names = st.text("abcdef0123456789", min_size=1, max_size=6)
orders = st.builds(
    OrderFacts,
    symbol=st.sampled_from(["XRPUSDT", "BTCUSDT"]),
    side=st.sampled_from(["BUY", "SELL"]),
    quantity=amounts,
    filled=st.none() | amounts,
    price=amounts,
    open=st.just(True),
    status=st.just("ACCEPTED"),
)
trades = st.builds(
    TradeFacts,
    client_order_id=names,
    symbol=st.just("XRPUSDT"),
    side=st.sampled_from(["BUY", "SELL"]),
    price=amounts,
    quantity=amounts,
    fee=amounts,
    fee_currency=st.sampled_from(["USDT", "MX"]),
)
known = settings(deadline=None, max_examples=100)


@known
@given(st.dictionaries(names, orders), st.dictionaries(names, trades), st.dictionaries(names, amounts))
def test_equal_books_have_no_difference(
    some: dict[str, OrderFacts], fills: dict[str, TradeFacts], totals: dict[str, Decimal]
) -> None:
    assert compare_orders(some, some, {}) == []
    assert compare_trades(fills, fills) == []
    assert compare_balances(totals, totals, {}, []) == []


@known
@given(st.dictionaries(names, trades, min_size=1), st.data())
def test_a_fill_that_only_one_side_has_is_found_and_no_other(fills: dict[str, TradeFacts], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(fills)))
    rest = {name: fill for name, fill in fills.items() if name != gone}
    assert [(one.kind, one.subject) for one in compare_trades(rest, fills)] == [(Kind.TRADE_MISSING_HERE, gone)]
    assert [(one.kind, one.subject) for one in compare_trades(fills, rest)] == [(Kind.TRADE_UNKNOWN_AT_VENUE, gone)]


@known
@given(trades, st.sampled_from(["price", "quantity", "fee", "side", "symbol", "fee_currency", "client_order_id"]))
def test_a_fill_that_differs_in_one_thing_is_never_booked(fill: TradeFacts, field: str) -> None:
    value = getattr(fill, field)
    changed: dict[str, Any] = {field: value + 1 if isinstance(value, Decimal) else f"{value}x"}
    other = replace(fill, **changed)
    found = compare_trades({"t1": fill}, {"t1": other})
    assert [(one.kind, one.correction) for one in found] == [(Kind.TRADE_DIFFERS, Correction.NONE)]


@known
@given(st.dictionaries(names, amounts), names, amounts)
def test_a_balance_is_off_by_what_the_correction_books(totals: dict[str, Decimal], asset: str, off: Decimal) -> None:
    theirs = totals | {asset: totals.get(asset, D(0)) + off}
    (one,) = compare_balances(totals, theirs, {asset: D(2)}, [])
    assert (one.subject, one.amount, one.size, one.correction) == (asset, off, 2 * off, Correction.LEDGER)


def test_what_has_no_price_is_larger_than_any_bound() -> None:
    (one,) = compare_balances({}, {"MX": D(1)}, {}, [])
    assert one.size == D("Infinity")


ORDER = OrderFacts("XRPUSDT", "BUY", D(10), D(0), D(2), open=True, status="ACCEPTED")


@pytest.mark.parametrize(
    ("ours", "venue", "kind", "correction"),
    [
        (ORDER, None, Kind.ORDER_MISSING_AT_VENUE, Correction.END_HERE),
        (replace(ORDER, settling=True), None, Kind.ORDER_MISSING_AT_VENUE, Correction.ASK),
        (ORDER, replace(ORDER, open=False), Kind.STATUS, Correction.ASK),
        (replace(ORDER, open=False), ORDER, Kind.STATUS, Correction.CANCEL_AT_VENUE),
        (ORDER, replace(ORDER, symbol="BTCUSDT"), Kind.STATUS, Correction.NONE),
        (ORDER, replace(ORDER, filled=D(1)), Kind.FILLED_QUANTITY, Correction.ASK),
        (replace(ORDER, filled=D(2)), replace(ORDER, filled=D(1)), Kind.FILLED_QUANTITY, Correction.NONE),
    ],
)
def test_each_way_in_which_an_order_differs(
    ours: OrderFacts, venue: OrderFacts | None, kind: Kind, correction: Correction
) -> None:
    (one,) = compare_orders({"c1": ours}, {"c1": venue}, {})
    assert (one.kind, one.correction, one.client_order_id) == (kind, correction, "c1")


FILL = TradeFacts("c1", "XRPUSDT", "BUY", D("0.5"), D(10), D(0), "USDT", "XRPUSDT", "BUY", D("0.51"))


@pytest.mark.parametrize(
    ("fill", "doubt"),
    [
        (FILL, ""),
        (replace(FILL, price=D("1.02")), ""),
        (replace(FILL, price=D("1.0201")), "far from the order's limit 0.51"),
        (replace(FILL, price=D("0.2549")), "far from the order's limit 0.51"),
        (replace(FILL, side="SELL"), "the order is a BUY of XRPUSDT"),
        (replace(FILL, symbol="BTCUSDT"), "the order is a BUY of XRPUSDT"),
        (replace(FILL, quantity=D(0)), "not above zero"),
        (replace(FILL, limit_price=None), "no order of ours"),
    ],
)
def test_a_fill_that_cannot_be_one_of_its_order_is_not_booked_and_says_why(fill: TradeFacts, doubt: str) -> None:
    assert doubt in fill.doubt()
    assert bool(doubt) == bool(fill.doubt())
    (one,) = compare_trades({}, {"t1": fill})
    assert (one.correction, one.detail) == (Correction.NONE if doubt else Correction.ASK, fill.doubt())


def test_a_missing_fill_explains_the_quantity_and_the_status_of_its_order_and_of_no_other() -> None:
    filled = replace(ORDER, filled=D(10), open=False)
    found = compare_orders({"c1": ORDER, "c2": ORDER}, {"c1": filled, "c2": filled}, {}) + compare_trades(
        {}, {"t1": FILL}
    )
    assert [(one.kind, one.client_order_id) for one in explained(found)] == [
        (Kind.FILLED_QUANTITY, "c2"), (Kind.TRADE_MISSING_HERE, "c1"),
    ]  # fmt: skip
