"""That risk looks at what is really there, that every check is asked, and that nothing blocks for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.engine.risk.values import SOUND_PATH, Reason
from apps.market.models import Instrument
from apps.portfolio.models import Position
from apps.risk.models import RiskDecision, RiskLimits, RiskState, TradingState
from apps.risk.services import set_trading_state
from tests.factories import PositionFactory, ReservationFactory
from tests.house.sources import REPOSITORY
from tests.worlds import NOW_MS, TRIGGER_MS, World, open_world, stale

D = Decimal
pytestmark = pytest.mark.django_db


def hold(world: World, symbol: str, quantity: int) -> None:
    """A position in the symbol, marked at 0.5 by its last bar."""
    PositionFactory.create(account=world.account, instrument=world.instruments[symbol], quantity=D(quantity))
    held = RiskState.objects.get(account=world.account).exposure + D(quantity) / 2
    marks = {"minute": 1, "prices": dict.fromkeys(world.instruments, "0.5")}
    RiskState.objects.filter(account=world.account).update(exposure=held, marks=marks)


def set_state(world: World, state: TradingState) -> None:
    set_trading_state(account_id=world.account.pk, to_state=state, set_by="tester", reason="a test")


def decided(world: World, symbol: str = "XRPUSDT", **fields: object) -> RiskDecision:
    decision = world.decide(world.entry_signal(symbol, **fields))
    assert decision is not None
    return decision


# --- every check is asked, with the facts of the account --------------------------------------------------------------


def not_tradable(world: World) -> RiskDecision:
    Instrument.objects.update(tradable=False)
    return decided(world)


def halted(world: World) -> RiskDecision:
    set_state(world, TradingState.HALTED)
    return decided(world)


def reducing(world: World) -> RiskDecision:
    set_state(world, TradingState.REDUCING)
    return decided(world)


def stale_feed(world: World) -> RiskDecision:
    decision = world.decide(world.entry_signal(), feed=stale)
    assert decision is not None
    return decision


def too_large(world: World) -> RiskDecision:
    RiskLimits.objects.update(order_notional_max=D("0.01"))
    return decided(world)


def too_small(world: World) -> RiskDecision:
    Instrument.objects.update(notional_min=D(2_500))
    return decided(world)


def much_of_one_symbol(world: World) -> RiskDecision:
    hold(world, "XRPUSDT", 19_000)
    return decided(world)


def order_still_open(world: World) -> RiskDecision:
    world.approved(world.entry_signal())
    return decided(world)


def much_of_everything(world: World) -> RiskDecision:
    hold(world, "ADAUSDT", 250_000)
    return decided(world)


def little_cash(world: World) -> RiskDecision:
    """All but 1 500 is promised to another order."""
    ReservationFactory.create(
        account=world.account, instrument=world.instruments["ADAUSDT"], amount=D(98_500), notional=D(0)
    )
    return decided(world)


def many_orders(world: World) -> RiskDecision:
    RiskLimits.objects.update(orders_per_minute_max=1)
    world.approved(world.entry_signal("ADAUSDT", ts_event=TRIGGER_MS))
    return decided(world, ts_event=TRIGGER_MS + 30_000)


def the_same_again(world: World) -> RiskDecision:
    RiskLimits.objects.update(open_orders_symbol_max=9)
    world.approved(world.entry_signal(ts_event=TRIGGER_MS, trade_id="a"))
    return decided(world, ts_event=TRIGGER_MS + 1, trade_id="b")


def on_a_path(world: World, **path: Any) -> RiskDecision:
    decision = world.decide(world.entry_signal(), path=lambda _: replace(SOUND_PATH, **path))
    assert decision is not None
    return decision


def differing_books(world: World) -> RiskDecision:
    RiskState.objects.update(recon_differences=1, recon_words="a trade that we do not know")
    return decided(world)


def while_one_is_sold(world: World) -> RiskDecision:
    RiskLimits.objects.update(open_orders_symbol_max=9)
    hold(world, "XRPUSDT", 10)
    world.approved(world.exit_signal(Position.objects.get()))
    return decided(world)


def on_a_bad_day(world: World) -> RiskDecision:
    """Of 106 000 at the first decision of the day 6 000 are lost."""
    day = datetime.fromtimestamp(TRIGGER_MS / 1000, UTC).date()
    RiskState.objects.update(day=day, day_start_equity=106_000, peak_equity=100_000, last_equity=100_000)
    return decided(world)


def below_the_peak(world: World) -> RiskDecision:
    RiskState.objects.update(peak_equity=106_000)
    return decided(world)


def again_and_again(world: World) -> RiskDecision:
    RiskLimits.objects.update(open_orders_symbol_max=9, positions_per_symbol_max=9, duplicate_ms=0)
    for number in range(3):
        world.approved(world.entry_signal(ts_event=TRIGGER_MS + number * 1_000, trade_id=f"a{number}"))
    return decided(world, ts_event=TRIGGER_MS + 30_000)


SITUATIONS: dict[Reason, Callable[[World], RiskDecision]] = {
    Reason.SYMBOL: not_tradable,
    Reason.HALTED: halted,
    Reason.REDUCING: reducing,
    Reason.STALE_FEED: stale_feed,
    Reason.STALE_SIGNAL: lambda world: decided(world, ts_init=NOW_MS - 2_001),
    Reason.DATA_GAP: lambda world: decided(world, unproven_minutes=1),
    Reason.PRICE_COLLAR: lambda world: decided(world, median_price=D("0.48")),
    Reason.FAT_FINGER: too_large,
    Reason.MIN_NOTIONAL: too_small,
    Reason.POSITION_LIMIT: much_of_one_symbol,
    Reason.OPEN_ORDERS: order_still_open,
    Reason.EXPOSURE: much_of_everything,
    Reason.CASH: little_cash,
    Reason.THROTTLE: many_orders,
    Reason.DUPLICATE: the_same_again,
    Reason.LEASE: lambda world: on_a_path(world, lease_age_ms=6_001),
    Reason.VERSION: lambda world: on_a_path(world, strangers=1, version_words="drain-0"),
    Reason.HEARTBEAT: lambda world: on_a_path(world, heartbeat_age_ms=15_001),
    Reason.RECON: differing_books,
    Reason.BAD_TICK: lambda world: decided(world, confirmed_price=D("0.4")),
    Reason.SELF_TRADE: while_one_is_sold,
    Reason.LOSS_LIMIT: on_a_bad_day,
    Reason.DRAWDOWN: below_the_peak,
    Reason.REPEAT: again_and_again,
}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_check_is_asked_for_a_real_order_and_denies_it_alone(reason: Reason) -> None:
    """A check that nobody calls, or calls with something other than the account's facts, approves here."""
    decision = SITUATIONS[reason](open_world(["XRPUSDT", "ADAUSDT"]))
    assert (decision.verdict, decision.reasons) == ("denied", [reason.value])


def test_a_symbol_that_is_full_stops_only_itself() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    hold(world, "XRPUSDT", 19_000)
    assert decided(world, "XRPUSDT").reasons == ["POSITION_LIMIT"]
    assert decided(world, "ADAUSDT").verdict == "approved"


# --- equity is what the account is worth ------------------------------------------------------------------------------


@pytest.mark.parametrize(("initial", "quantity"), [("10000", 400), ("100000", 4_000), ("730000", 29_200)])
def test_an_order_is_sized_by_the_worth_of_its_own_account(initial: str, quantity: int) -> None:
    decision = decided(open_world(initial=initial))
    assert decision.equity == D(initial)
    assert decision.intents.get().quantity == D(quantity)


def test_the_account_is_read_once_per_decision_and_under_its_lock() -> None:
    world = open_world()
    signal = world.entry_signal()
    with CaptureQueriesContext(connection) as queries:
        world.decide(signal)
    money = [query["sql"] for query in queries if '"portfolio_account"."cash"' in query["sql"]]
    assert len(money) == 1
    assert "FOR UPDATE" in money[0]


# --- what is known is stored, and what is stored ends -----------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_new_process_knows_exposure_open_orders_and_state_of_the_one_before() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    hold(world, "ADAUSDT", 1_000)
    world.approved(world.entry_signal())
    set_state(world, TradingState.REDUCING)
    database = connection.settings_dict
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    command = [sys.executable, "manage.py", "risk", "show", "--json"]
    answer = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "DATABASE_URL": url}, capture_output=True, timeout=60, check=True
    )
    report = json.loads(answer.stdout)
    assert (report["trading_state"], report["open_orders"]) == ("REDUCING", 1)
    # the position at its mark, and the order: 2 % of 100 500 at 0.5, reserved at its limit of 0.51
    assert D(report["exposure"]) == D(500) + D(4_020) * D("0.51")


def test_a_halt_concerns_one_account_and_ends_with_its_resume() -> None:
    here, elsewhere = open_world(), open_world()
    set_state(here, TradingState.HALTED)
    assert decided(here).reasons == ["HALTED"]
    assert decided(elsewhere).verdict == "approved"
    set_state(here, TradingState.ACTIVE)
    assert decided(here).verdict == "approved"
