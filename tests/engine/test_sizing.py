"""How large an order is in each mode, and its limit prices."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.desk.book import Book, Earlier, MarkSet
from apps.engine.desk.deciding import Circumstances, Ruled, Standing, Terms, Trigger, decide
from apps.engine.money import notional
from apps.engine.risk.values import Reason, Sizing, TradingState
from apps.engine.sizing import average_true_range, exit_limit, opening_limit, opening_size
from tests.engine.simulations import FIRST_MS, LIMITS

D = Decimal
AMOUNTS = {Reason.FAT_FINGER, Reason.MIN_NOTIONAL, Reason.POSITION_LIMIT, Reason.EXPOSURE, Reason.CASH}


def size(**given_values: Any) -> Decimal:
    common = {"limits": LIMITS, "limit_price": D(given_values["price"]) * D("1.02"), "notional_max": D(2_000_000)}
    return opening_size(**{**common, **given_values}).quantity


@pytest.mark.parametrize(
    ("equity", "price", "decimals", "notional_max", "expected"),
    [
        ("100000", "0.5", 2, "2000000", "4000.00"),
        ("100000", "0.52413", 2, "2000000", "3815.84"),  # 3815.8471..., never rounded up
        ("100000", "95639.26", 6, "2000000", "0.020911"),
        ("100000", "0.5", 0, "1000", "1960"),  # 1000 / 0.51: the exchange's maximum holds at the limit price
        ("10", "95639.26", 5, "2000000", "0.00000"),
        ("0", "0.5", 2, "2000000", "0"),
        ("-5", "0.5", 2, "2000000", "0"),
        ("100000", "0", 2, "2000000", "0"),
    ],
)
def test_a_fixed_fraction_is_two_percent_of_equity_in_whole_steps(
    equity: str, price: str, decimals: int, notional_max: str, expected: str
) -> None:
    found = size(equity=D(equity), price=D(price), quantity_decimals=decimals, notional_max=D(notional_max))
    assert found == D(expected)


@pytest.mark.parametrize(("equity", "expected"), [("100000", "2000"), ("1000", "2000"), ("0", "0")])
def test_a_fixed_notional_does_not_grow_with_the_account(equity: str, expected: str) -> None:
    limits = replace(LIMITS, sizing=Sizing.FIXED_NOTIONAL, order_notional=D(1_000))
    assert size(limits=limits, equity=D(equity), price=D("0.5"), quantity_decimals=2) == D(expected)


def test_a_volatile_symbol_gets_the_size_at_which_two_ranges_cost_the_risk() -> None:
    limits = replace(LIMITS, sizing=Sizing.VOLATILITY)
    found = size(limits=limits, equity=D(100_000), price=D(100), quantity_decimals=3, volatility=D("1.6"))
    assert found == D("31.25")
    assert found * 2 * D("1.6") == D("0.001") * 100_000


@pytest.mark.parametrize(("volatility", "cap", "ceiling"), [("0", None, 5_000), ("1e-9", None, 5_000), ("0", 900, 900)])
def test_a_quiet_symbol_gets_no_more_than_one_order_may_be(volatility: str, cap: int | None, ceiling: int) -> None:
    limits = replace(LIMITS, sizing=Sizing.VOLATILITY)
    quantity = size(
        limits=limits, equity=D(100_000), price=D(100), limit_price=D(102), quantity_decimals=3,
        volatility=D(volatility), order_cap=None if cap is None else D(cap),
    )  # fmt: skip
    assert quantity * 102 <= ceiling < (quantity + D("0.001")) * 102


def test_a_symbol_whose_ranges_are_not_known_has_no_size_and_says_so() -> None:
    limits = replace(LIMITS, sizing=Sizing.VOLATILITY)
    found = opening_size(
        limits=limits, equity=D(100_000), price=D(100), limit_price=D(102), quantity_decimals=3, notional_max=D(10**6)
    )
    assert (found.quantity, found.words) == (D(0), "its average true range over 14 minutes is not known yet")


def test_a_true_range_spans_the_way_from_the_close_before() -> None:
    quiet = (D(100), D(100), D(100))
    assert average_true_range([quiet] * 14) is None
    assert average_true_range([quiet] * 15) == 0
    assert average_true_range([quiet] * 14 + [(D(102), D("98.5"), D(101))]) == D("0.25")
    assert average_true_range([quiet] * 14 + [(D(107), D(105), D(106))]) == D("0.5"), "a gap upwards"
    assert average_true_range([quiet] * 14 + [(D(95), D(93), D(94))]) == pytest.approx(D(7) / 14), "and one downwards"
    assert average_true_range([(D(900), D(1), D(100))] + [quiet] * 15) == 0, "only the last fourteen count"


# --- whatever the account, the limits and the filters -----------------------------------------------------------------

FRACTIONS = st.decimals("0.0001", "1", places=4)
MONEY = st.decimals("0.01", "1e7", places=2)
ANY_LIMITS = st.builds(
    lambda **values: replace(LIMITS, **values),
    sizing=st.sampled_from(Sizing), order_size=FRACTIONS, order_notional=MONEY,
    risk_fraction=st.decimals("0.0001", "0.1", places=4), volatility_multiple=st.decimals("0.1", "10", places=1),
    order_notional_max=FRACTIONS, position_max=FRACTIONS, exposure_max=FRACTIONS,
    collar=st.decimals("0.0001", "0.2", places=4),
)  # fmt: skip
ANY_TERMS = st.builds(
    Terms, symbol=st.just("XRPUSDT"), base_asset=st.just("XRP"), quote_asset=st.just("USDT"),
    price_decimals=st.integers(2, 8), quantity_decimals=st.integers(0, 8), quantity_min=st.sampled_from([D(0), D(1)]),
    notional_min=st.decimals("0", "100", places=2), notional_max=MONEY, taker_fee=st.sampled_from([D(0), D("0.0005")]),
    tradable=st.just(True),
)  # fmt: skip


def ruled_on(limits: Any, terms: Terms, cash: Decimal, price: Decimal, around: dict[str, Any]) -> Ruled:
    trigger = Trigger("XRPUSDT", FIRST_MS, price, price, price, price, 0, "", False, None, price)
    told = Circumstances(True, 0, "", 0, MarkSet(None, {"XRPUSDT": price}), **around)
    standing = Standing(TradingState.ACTIVE, "", "USDT", cash, Book([], []), MarkSet(None, {}))
    return decide(trigger, terms, told, standing, limits, lambda _: Earlier(0, 0, 0, 0, 0, None))


@given(
    limits=ANY_LIMITS, terms=ANY_TERMS, cash=MONEY, price=st.decimals("0.01", "1e5", places=2),
    volatility=st.none() | st.decimals("0", "1e3", places=4), cap=st.none() | MONEY,
)  # fmt: skip
def test_an_order_passes_every_check_of_its_amount_or_is_denied_by_name(
    limits: Any, terms: Terms, cash: Decimal, price: Decimal, volatility: Decimal | None, cap: Decimal | None
) -> None:
    ruled = ruled_on(limits, terms, cash, price, {"volatility": volatility, "order_cap": cap})
    intent, step = ruled.proposal.intent, D(1).scaleb(-terms.quantity_decimals)
    cost = notional(intent.quantity, intent.limit_price)
    assert intent.quantity % step == 0
    if ruled.approved:
        assert intent.quantity > 0
        assert terms.notional_min <= notional(intent.quantity, price)
        assert cost <= min(limits.order_notional_max, limits.position_max, limits.exposure_max) * cash
        assert cost <= (cash if cap is None else min(cap, cash))
    else:
        assert set(ruled.assessment.reasons) <= AMOUNTS
        assert ruled.assessment.reasons
    if not intent.quantity:
        assert not ruled.approved, "nothing is never sent"


@given(limits=ANY_LIMITS, terms=ANY_TERMS, cash=MONEY, price=st.decimals("0.01", "1e5", places=2), volatility=MONEY)
def test_one_step_more_is_more_than_was_asked_for_or_than_one_order_may_be(
    limits: Any, terms: Terms, cash: Decimal, price: Decimal, volatility: Decimal
) -> None:
    intent = ruled_on(limits, terms, cash, price, {"volatility": volatility}).proposal.intent
    more = intent.quantity + D(1).scaleb(-terms.quantity_decimals)
    asked = {
        Sizing.FIXED_FRACTION: (more * price, limits.order_size * cash),
        Sizing.FIXED_NOTIONAL: (more * price, limits.order_notional),
        Sizing.VOLATILITY: (more * limits.volatility_multiple * volatility, limits.risk_fraction * cash),
    }
    value, most = asked[limits.sizing]
    too_large = more * intent.limit_price > terms.notional_max
    if limits.sizing is Sizing.VOLATILITY:
        too_large |= more * intent.limit_price > limits.order_notional_max * cash
    assert value > most or too_large


@pytest.mark.parametrize(
    ("price", "decimals", "expected"), [("0.5241", 4, "0.5345"), ("100", 0, "102"), ("3", 1, "3.0")]
)
def test_a_buy_accepts_the_collar_rounded_down_to_the_tick(price: str, decimals: int, expected: str) -> None:
    assert opening_limit(D(price), D("0.02"), decimals) == D(expected)


@pytest.mark.parametrize(
    ("price", "decimals", "expected"), [("0.5241", 4, "0.4717"), ("1", 0, "1"), ("0.0001", 4, "0.0001")]
)
def test_an_exit_accepts_the_band_rounded_up_to_the_tick(price: str, decimals: int, expected: str) -> None:
    assert exit_limit(D(price), D("0.1"), decimals) == D(expected)
