"""Equity and drawdown minute by minute, and coins that have no price."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.engine.performance import drawdowns
from apps.engine.portfolio import Leg, LegKind
from apps.portfolio.models import EquityPoint, Position
from apps.portfolio.selectors import coin_price, drawdown_series, equity_series
from apps.portfolio.services import record_equity
from apps.portfolio.services.equity import drawdown_of
from tests import factories
from tests.factories import START_MINUTE, START_MS
from tests.portfolio.test_accounts import buy, enter
from tests.portfolio.test_ledger import cash_and_capital, correct
from tests.worlds import World, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def record(world: World, prices: list[str]) -> None:
    for minute, price in enumerate(prices):
        assert record_equity(account=world.account, minute=START_MINUTE + minute, marks={"XRPUSDT": D(price)})


def test_the_peak_is_kept_and_the_drawdown_is_its_share_that_is_gone() -> None:
    world = open_world()
    enter(world, 1, buy("100000", "0.5", fee="0"))
    record(world, ["0.5", "0.6", "0.4", "0.7"])
    assert equity_series(world.account) == [
        (START_MINUTE, D(100_000)), (START_MINUTE + 1, D(110_000)), (START_MINUTE + 2, D(90_000)),
        (START_MINUTE + 3, D(120_000)),
    ]  # fmt: skip
    assert drawdown_series(world.account) == [
        (START_MINUTE, D(100_000), D(0)), (START_MINUTE + 1, D(110_000), D(0)),
        (START_MINUTE + 2, D(110_000), D("0.181818182")), (START_MINUTE + 3, D(120_000), D(0)),
    ]  # fmt: skip


def test_a_part_of_a_series_includes_both_ends() -> None:
    world = open_world()
    enter(world, 1, buy("1000", "0.5", fee="0"))
    record(world, ["0.5"] * 5)
    part = equity_series(world.account, first_minute=START_MINUTE + 1, last_minute=START_MINUTE + 3)
    assert [minute for minute, _ in part] == [START_MINUTE + 1, START_MINUTE + 2, START_MINUTE + 3]
    assert len(drawdown_series(world.account, first_minute=START_MINUTE + 4)) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prices=st.lists(st.integers(100, 900), min_size=1, max_size=12))
def test_the_stored_drawdowns_are_those_of_the_curve(prices: list[int]) -> None:
    world = open_world()
    enter(world, 1, buy("100000", "0.5", fee="0"))
    record(world, [str(D(price).scaleb(-3)) for price in prices])
    wanted = drawdowns(equity_series(world.account))
    for (minute, share), (stored, _, drawdown) in zip(wanted, drawdown_series(world.account), strict=True):
        assert minute == stored
        assert float(drawdown) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize(
    ("equity", "peak", "share"),
    [("100", "100", "0"), ("50", "100", "0.5"), ("0", "100", "1"), ("-50", "100", "1.5"), ("-1", "0", "0")],
)
def test_a_drawdown_is_a_share_of_its_peak(equity: str, peak: str, share: str) -> None:
    assert drawdown_of(D(equity), D(peak)) == D(share)


def test_a_coin_that_has_no_price_is_left_out_by_name_and_the_point_is_recorded() -> None:
    world = open_world()
    correct(world, [Leg(LegKind.ASSET, "MX", D(-3)), Leg(LegKind.FEE, "MX", D(3))])
    point = record_equity(account=world.account, minute=START_MINUTE + 1, marks={"XRPUSDT": D(1)})
    assert point is not None
    assert (point.equity, D(point.unvalued["MX"])) == (D(100_000), D(-3))


def test_a_coin_that_is_traded_in_the_session_counts_at_its_mark() -> None:
    world = open_world(["XRPUSDT", "MXUSDT"])
    correct(world, [Leg(LegKind.ASSET, "MX", D(3)), Leg(LegKind.VENUE, "MX", D(-3))])
    point = record_equity(account=world.account, minute=START_MINUTE + 1, marks={"MXUSDT": D(2)})
    assert point is not None
    assert (point.equity, point.unvalued) == (D(100_006), {})


def test_a_correction_of_cash_shows_in_the_curve() -> None:
    world = open_world()
    assert record_equity(account=world.account, minute=START_MINUTE, marks={})
    correct(world, cash_and_capital("-1000"))
    world.reach(START_MS)
    assert record_equity(account=world.account, minute=START_MINUTE + 5, marks={})
    assert EquityPoint.objects.latest("minute").drawdown == D("0.01")


# --- fees in a third coin ---------------------------------------------------------------------------------------------


def test_a_coin_is_worth_its_last_close_before_and_never_one_that_came_later() -> None:
    world = open_world(["XRPUSDT", "MXUSDT"])
    factories.BarFactory.create(
        epoch=world.epoch, instrument=world.instruments["MXUSDT"], minute=START_MINUTE + 1, close=D(9)
    )

    def price(minutes: int) -> Decimal | None:
        before_ms = (START_MINUTE + minutes) * 60_000
        return coin_price(epoch_id=world.epoch.pk, coin="MX", quote="USDT", before_ms=before_ms)

    assert [price(minutes) for minutes in (0, 1, 2, 3)] == [None, D("0.5"), D(9), D(9)]
    assert coin_price(epoch_id=world.epoch.pk, coin="KCS", quote="USDT", before_ms=2**50) is None


def test_a_fee_in_a_third_coin_is_booked_at_its_price_or_named() -> None:
    world = open_world(["XRPUSDT", "MXUSDT"])
    fill = buy("1000", "0.5", START_MS + 60_000)
    enter(world, 1, type(fill)(fill.side, fill.price, fill.quantity, D(2), "MX", fill.ts_event))
    enter(world, 2, type(fill)(fill.side, fill.price, fill.quantity, D(2), "KCS", fill.ts_event))
    rows = Position.objects.order_by("pk").values_list("fees", "fees_unvalued")
    assert [(fees, {coin: D(amount) for coin, amount in rest.items()}) for fees, rest in rows] == [
        (D(1), {}), (D(0), {"KCS": D(2)}),
    ]  # fmt: skip
    assert world.cash() == D(99_000)
