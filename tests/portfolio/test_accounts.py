"""Accounts, ledger, reservations, positions and equity points."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Sum

from apps.engine.portfolio import Fill, Promise, Side
from apps.portfolio.models import Account, EquityPoint, LedgerEntry, Position, Reservation
from apps.portfolio.selectors import closes_at, current_session, main_account, read_book
from apps.portfolio.services import (
    EntryPlan,
    book_entry,
    book_exit,
    exit_failed,
    lock_account,
    open_account,
    promise_less,
    record_equity,
    release,
    reserve,
    save_account,
)
from tests.factories import (
    START_MINUTE,
    START_MS,
    BarFactory,
    EpochInstrumentFactory,
    InstrumentFactory,
    PositionFactory,
    ReservationFactory,
    TradingSessionFactory,
)
from tests.worlds import World, open_world

D = Decimal
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = EntryPlan(1, "1-0", D(2), D(4), 3_600_000)
pytestmark = pytest.mark.django_db


def buy(quantity: str, price: str, ts_event: int = START_MS, fee: str = "0.5") -> Fill:
    return Fill(Side.BUY, D(price), D(quantity), D(fee), "USDT", ts_event)


def sell(quantity: str, price: str, ts_event: int) -> Fill:
    return Fill(Side.SELL, D(price), D(quantity), D("0.5"), "USDT", ts_event)


def enter(world: World, number: int, fill: Fill) -> Position:
    with transaction.atomic():
        account = lock_account(world.account.pk)
        position = book_entry(
            account=account,
            instrument=world.instruments["XRPUSDT"],
            client_order_id=f"c{number}",
            reference=f"trade:paper:{number}",
            fill=fill,
            plan=PLAN,
        )
        save_account(account)
    return position


def leave(world: World, number: int, position: Position, fill: Fill) -> None:
    with transaction.atomic():
        account = lock_account(world.account.pk)
        book_exit(account=account, position=position, reference=f"trade:paper:{number}", fill=fill)
        save_account(account)


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_an_account_opens_with_a_deposit_that_is_in_the_ledger() -> None:
    session = TradingSessionFactory.create()
    account = open_account(session=session, currency="USDT", initial=D(100_000), now=NOW)
    assert (account.cash, account.sequence, account.book) == (D(100_000), 1, "main")
    legs = LedgerEntry.objects.filter(account=account).order_by("leg").values_list("kind", "amount", "reference")
    assert list(legs) == [("cash", D(100_000), "deposit"), ("capital", D(-100_000), "deposit")]
    account.refresh_from_db()
    assert account.cash == D(100_000)


def test_opening_an_account_again_deposits_nothing() -> None:
    session = TradingSessionFactory.create()
    first = open_account(session=session, currency="USDT", initial=D(100_000), now=NOW)
    again = open_account(session=session, currency="USDT", initial=D(5), now=NOW)
    assert (again.pk, again.cash, LedgerEntry.objects.count()) == (first.pk, D(100_000), 2)


def test_the_current_session_is_the_newest_one_that_has_not_ended() -> None:
    assert current_session() is None
    old = TradingSessionFactory.create()
    newer = TradingSessionFactory.create()
    assert current_session() == newer
    newer.ended_at = NOW
    newer.save()
    assert current_session() == old
    assert main_account(old) is None


# --- money ------------------------------------------------------------------------------------------------------------


def test_a_buy_moves_cash_and_opens_a_position() -> None:
    world = open_world()
    position = enter(world, 1, buy("1000", "0.5"))
    account = Account.objects.get(pk=world.account.pk)
    assert (account.cash, account.portfolio_epoch) == (D(100_000) - D(500) - D("0.5"), 1)
    position.refresh_from_db()
    assert (position.quantity, position.stop_price, position.target_price) == (D(1_000), D("0.49"), D("0.52"))
    sums = LedgerEntry.objects.filter(reference="trade:paper:1").values("currency").annotate(sum=Sum("amount"))
    assert {row["currency"]: row["sum"] for row in sums} == {"USDT": 0, "XRP": 0}


def test_a_reference_cannot_be_posted_twice() -> None:
    world = open_world()
    enter(world, 1, buy("1000", "0.5"))
    with pytest.raises(IntegrityError), transaction.atomic():
        enter(world, 1, buy("1000", "0.5"))
    assert world.cash() == D("99499.5")
    assert Position.objects.get().quantity == D(1_000)


def test_a_sale_of_everything_closes_the_position() -> None:
    world = open_world()
    position = enter(world, 1, buy("1000", "0.5"))
    leave(world, 2, position, sell("1000", "0.55", START_MS + 5))
    position.refresh_from_db()
    assert (position.status, position.closed_ts, position.realized, position.fees) == (
        "closed", START_MS + 5, D(50), D(1),
    )  # fmt: skip
    assert world.cash() == D(100_000) + D(50) - D(1)


def test_a_failed_exit_moves_the_time_exit_only_forward() -> None:
    world = open_world()
    position = PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    due = position.due_ts
    for not_before, expected in ((due - 1, due), (due + 500, due + 500)):
        account = lock_account(world.account.pk)
        exit_failed(account=account, position=position, not_before_ms=not_before)
        position.refresh_from_db()
        assert position.due_ts == expected
    assert position.exit_attempts == 2


# --- reservations -----------------------------------------------------------------------------------------------------


def test_a_reservation_shrinks_and_is_released_once() -> None:
    world = open_world()
    instrument = world.instruments["XRPUSDT"]
    promise = Promise("USDT", D("100.5"), D(100))
    reserve(
        account=world.account,
        instrument=instrument,
        client_order_id="c1",
        promise=promise,
        ts_event=1,
        position_id=None,
    )
    promise_less(client_order_id="c1", promise=Promise("USDT", D(50), D(49)))
    row = Reservation.objects.get()
    assert (row.amount, row.notional, row.active, row.reducing) == (D(50), D(49), True, False)
    assert [release(client_order_id="c1"), release(client_order_id="c1")] == [True, False]
    promise_less(client_order_id="c1", promise=promise)
    row.refresh_from_db()
    assert (row.amount, row.notional, row.active) == (D(0), D(0), False)


def test_a_book_counts_open_positions_and_active_reservations_only() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    xrp, ada = world.instruments["XRPUSDT"], world.instruments["ADAUSDT"]
    PositionFactory.create(account=world.account, instrument=xrp, quantity=D(10))
    PositionFactory.create(account=world.account, instrument=xrp, quantity=D(0), status="closed")
    ReservationFactory.create(account=world.account, instrument=ada, amount=D(7), notional=D(6))
    ReservationFactory.create(account=world.account, instrument=ada, active=False)
    ReservationFactory.create(
        account=world.account, instrument=xrp, reducing=True, currency="XRP", amount=D(10), notional=D(0)
    )
    book = read_book(world.account.pk)
    marks = {"XRPUSDT": D(2)}
    assert [book.exposure(marks, symbol) for symbol in (None, "XRPUSDT", "ADAUSDT")] == [D(26), D(20), D(6)]
    assert (book.reserved("USDT"), book.reserved("XRP")) == (D(7), D(10))
    assert book.worth({}) == (D(0), ("XRPUSDT",))
    assert book.symbols == {"XRPUSDT", "ADAUSDT"}


# --- equity -----------------------------------------------------------------------------------------------------------


def test_closes_of_a_minute_fall_back_to_the_last_bar_before() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT", "SOLUSDT"])
    for symbol, minute, close in (("XRPUSDT", 5, "0.6"), ("ADAUSDT", 4, "0.7"), ("XRPUSDT", 6, "9")):
        BarFactory.create(
            epoch=world.epoch, instrument=world.instruments[symbol], minute=START_MINUTE + minute, close=D(close)
        )
    found = closes_at(epoch_id=world.epoch.pk, minute=START_MINUTE + 5)
    assert found == {"XRPUSDT": D("0.6"), "ADAUSDT": D("0.7"), "SOLUSDT": D("0.5")}
    assert closes_at(epoch_id=world.epoch.pk, minute=START_MINUTE - 1) == {}


def test_an_equity_point_is_the_worth_at_the_close_of_its_minute_whenever_it_is_recorded() -> None:
    world = open_world()
    position = enter(world, 1, buy("1000", "0.5", START_MS + 1_000))
    leave(world, 2, position, sell("1000", "0.55", START_MS + 61_000))
    first = record_equity(account=world.account, minute=START_MINUTE, marks={"XRPUSDT": D("0.52")})
    second = record_equity(account=world.account, minute=START_MINUTE + 1, marks={})
    before = record_equity(account=world.account, minute=START_MINUTE - 1, marks={})
    assert first is not None
    assert second is not None
    assert before is not None
    assert (first.cash, first.exposure, first.equity) == (D("99499.5"), D(520), D("100019.5"))
    assert (second.cash, second.exposure, second.equity) == (D(100_049), D(0), D(100_049))
    assert before.equity == D(100_000)


def test_an_equity_point_is_recorded_once() -> None:
    world = open_world()
    points = [record_equity(account=world.account, minute=5, marks={}) for _ in range(2)]
    assert points[0] == points[1]
    assert EquityPoint.objects.count() == 1


def test_without_a_price_of_a_holding_there_is_no_equity_point() -> None:
    world = open_world()
    enter(world, 1, buy("1000", "0.5"))
    assert record_equity(account=world.account, minute=START_MINUTE, marks={}) is None
    assert not EquityPoint.objects.exists()


def test_a_holding_is_valued_by_the_instrument_of_its_own_epoch() -> None:
    world = open_world()
    EpochInstrumentFactory.create(instrument=InstrumentFactory.create(symbol="XRPUSDT", source="elsewhere"))
    enter(world, 1, buy("1000", "0.5"))
    point = record_equity(account=world.account, minute=START_MINUTE, marks={"XRPUSDT": D("0.5")})
    assert point is not None
    assert point.exposure == D(500)
