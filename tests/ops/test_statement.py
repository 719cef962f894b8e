"""The statement of a day: every line sums up, whatever was traded and whatever the fees were paid in."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.engine.portfolio import Leg, LegKind, Side
from apps.market.models import ShardCursor
from apps.ops.management.commands.statement import strategy_of, symbol_of
from apps.ops.selectors.results import grouped, results
from apps.ops.selectors.statement import NoStatement, Statement, day_of, statement_of
from apps.portfolio.models import Account, Position
from apps.portfolio.services import record_equity
from apps.risk.models import RiskLimits
from tests import factories
from tests.factories import START_MINUTE, START_MS
from tests.portfolio.test_ledger import correct
from tests.portfolio.test_money_invariants import Books, open_books
from tests.worlds import World, open_world

D = Decimal
DAY_ONE, DAY_TWO, DAY_THREE = date(2023, 11, 14), date(2023, 11, 15), date(2023, 11, 16)
MIDNIGHT_MS = day_of(DAY_TWO, "UTC").first_ms
HOUR_MS = 3_600_000
pytestmark = pytest.mark.django_db


def bar(world: World, symbol: str, at_ms: int, close: str) -> None:
    """The close of the minute before an event time."""
    factories.BarFactory.create(
        epoch=world.epoch, instrument=world.instruments[symbol], minute=at_ms // 60_000 - 1, close=D(close)
    )


def closed_until(world: World, at_ms: int) -> None:
    """Every shard has closed the minutes before an event time."""
    ShardCursor.objects.filter(epoch=world.epoch).update(closed_minute=at_ms // 60_000 - 1)


def books_of_two_days() -> Books:
    """XRP and MX are traded in the session; XRP ends the first day at 0.6 and the second at 0.4, MX at 2 and 3."""
    books = open_books("XRPUSDT", "MXUSDT")
    for at_ms, xrp, mx in ((MIDNIGHT_MS, "0.6", "2"), (MIDNIGHT_MS + 24 * HOUR_MS, "0.4", "3")):
        bar(books.world, "XRPUSDT", at_ms, xrp)
        bar(books.world, "MXUSDT", at_ms, mx)
    closed_until(books.world, MIDNIGHT_MS + 48 * HOUR_MS)
    return books


def statement(world: World, day: date) -> Statement:
    account = Account.objects.select_related("session__epoch").get(pk=world.account.pk)
    return statement_of(account=account, day=day)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_day_of_one_round_trip_and_one_position_that_stays() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "USDT")
    books.fill(Side.SELL, books.positions[0], D(1_000), D("0.55"), "USDT", START_MS + 60_000)
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "USDT", START_MS + 120_000)
    found = statement(books.world, DAY_ONE)
    cash, equity = found.cash, found.equity
    assert (found.trades, found.over, found.zone, found.adds_up) == (3, True, "UTC", True)
    assert (cash.opening, cash.bought, cash.sold, cash.fees) == (D(100_000), D(1_500), D(550), D("2.05"))
    assert cash.closing == D("99047.95")
    assert (equity.opening, equity.realized, equity.unrealized, equity.fees, equity.coins) == (
        D(100_000), D(50), D(200), D("2.05"), D(0),
    )  # fmt: skip
    assert equity.closing == D("100247.95")
    assert found.holdings == {"XRP": D(2_000)}
    assert found.fees_by_currency == {"USDT": D("2.05")}


def test_the_next_day_goes_on_from_where_the_day_before_ended() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "USDT")
    books.fill(Side.SELL, books.positions[0], D(500), D("0.7"), "USDT", MIDNIGHT_MS + HOUR_MS)
    first, second = statement(books.world, DAY_ONE), statement(books.world, DAY_TWO)
    assert (second.cash.opening, second.equity.opening) == (first.cash.closing, first.equity.closing)
    assert (second.equity.realized, second.equity.unrealized) == (D(100), D(-150) - D(200))
    assert second.adds_up


def test_fees_in_a_coin_that_has_a_price_count_at_that_price() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "MX", START_MS + 60_000)  # 1 MX, at 0.5
    found = statement(books.world, DAY_ONE)
    assert found.fees_by_currency == {"MX": D(1)}
    assert (found.equity.fees, found.equity.coins) == (D("0.5"), D("-1.5"))  # paid at 0.5, owed at 2
    assert (found.equity.closing, found.adds_up, found.unvalued) == (D(100_000) + D(200) - D(2), True, {})


def test_fees_in_a_coin_without_a_price_are_named_and_not_guessed() -> None:
    books = open_books()
    bar(books.world, "XRPUSDT", MIDNIGHT_MS, "0.6")
    closed_until(books.world, MIDNIGHT_MS + 24 * HOUR_MS)
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "MX")
    found = statement(books.world, DAY_ONE)
    assert found.unvalued == {"MX": D(-1)}
    assert (found.equity.fees, found.equity.closing, found.adds_up) == (D(0), D(100_200), True)
    assert found.results[0].unvalued == {"MX": D(1)}
    assert "not valued: −1 MX" in text_of(books.world, DAY_ONE)


def test_a_correction_is_a_line_of_its_own_and_named() -> None:
    books = books_of_two_days()
    books.world.reach(START_MS + 60_000)
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "USDT")
    ShardCursor.objects.filter(epoch=books.world.epoch).update(watermark_ms=START_MS + 60_000)
    correct(books.world, [Leg(LegKind.CASH, "USDT", D(7)), Leg(LegKind.CAPITAL, "USDT", D(-7))])
    correct(books.world, [Leg(LegKind.ASSET, "MX", D(3)), Leg(LegKind.VENUE, "MX", D(-3))])
    found = statement(books.world, DAY_ONE)
    assert (found.cash.corrections, found.equity.corrections, found.equity.coins) == (D(7), D(7), D(6))
    assert (found.corrections, found.adds_up) == (["correction:1", "correction:2"], True)


def test_results_are_told_by_position_symbol_and_strategy() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "USDT")
    books.fill(Side.BUY, None, D(3_000), D("0.5"), "USDT")
    books.fill(Side.SELL, books.positions[1], D(3_000), D("0.4"), "USDT")
    Position.objects.update(strategy_version_id=books.world.version.pk)
    found = statement(books.world, DAY_ONE)
    assert [(row.realized, row.unrealized) for row in found.results] == [(D(0), D(100)), (D(-300), D(0))]
    by_symbol, by_strategy = (grouped(found.results, key) for key in (symbol_of, strategy_of))
    for (total,) in (by_symbol.values(), by_strategy.values()):
        assert (total.positions, total.realized, total.unrealized) == (2, D(-300), D(100))
    assert (list(by_symbol), list(by_strategy)) == (["XRPUSDT"], ["momentum"])


def test_results_since_ever_are_those_that_the_positions_hold() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "XRP")
    books.fill(Side.SELL, books.positions[0], D(400), D("0.6"), "MX", MIDNIGHT_MS + HOUR_MS)
    account = Account.objects.select_related("session__epoch").get(pk=books.world.account.pk)
    rows = results(account=account, begin_ms=0, end_ms=2**62, opening={}, closing={"XRPUSDT": D(1)})
    held = Position.objects.get()
    assert [(row.realized, row.fees) for row in rows] == [(held.realized, held.fees)]
    assert rows[0].unrealized == held.quantity - held.cost


# --- any day ----------------------------------------------------------------------------------------------------------

FILLS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "add", "leave"]),
        st.integers(1, 9_999),
        st.integers(400, 600),
        st.sampled_from(["USDT", "XRP", "MX"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fills=FILLS)
def test_whatever_is_traded_each_day_adds_up_and_goes_on_from_the_day_before(
    fills: list[tuple[str, int, int, str, bool]],
) -> None:
    books, at_ms = books_of_two_days(), START_MS + 60_000
    for what, amount, price, coin, next_day in fills:
        at_ms = MIDNIGHT_MS + HOUR_MS if next_day else at_ms
        newest = books.positions[-1] if books.positions else None
        if what != "leave":
            onto = newest if what == "add" else None
            books.fill(Side.BUY, onto, D(amount).scaleb(-1), D(price).scaleb(-3), coin, at_ms)
        elif newest is not None:
            part = newest.quantity if amount > 5_000 else (newest.quantity / 3).quantize(D("1e-4"))
            if part:
                books.fill(Side.SELL, newest, part, D(price).scaleb(-3), coin, at_ms)
    record_equity(account=books.world.account, minute=START_MINUTE, marks={"XRPUSDT": D(1), "MXUSDT": D(1)})
    factories.EquityPointFactory.create(account=books.world.account, minute=MIDNIGHT_MS // 60_000)
    first, second = statement(books.world, DAY_ONE), statement(books.world, DAY_TWO)
    for found in (first, second):
        assert found.cash.adds_up
        assert found.equity.adds_up is True, found.equity
    assert (second.cash.opening, second.equity.opening) == (first.cash.closing, first.equity.closing)
    assert first.trades + second.trades == books.number
    realized = first.equity.realized + second.equity.realized
    assert realized == sum(row.realized for row in Position.objects.filter(account=books.world.account))


# --- days without data, days that are not over ------------------------------------------------------------------------


def test_a_day_without_data_is_refused_with_what_there_is() -> None:
    world = open_world()
    with pytest.raises(NoStatement, match="no data of 2023-11-14: nothing was recorded yet"):
        statement(world, DAY_ONE)
    record_equity(account=world.account, minute=START_MINUTE, marks={})
    for day in (date(2023, 11, 13), DAY_TWO):
        with pytest.raises(NoStatement, match="reach from 2023-11-14 22:14 UTC to 2023-11-14 22:14 UTC"):
            statement(world, day)
    closed_until(world, day_of(DAY_ONE, "UTC").first_ms)
    with pytest.raises(NoStatement, match="no minute of 2023-11-14 is closed yet"):
        statement(world, DAY_ONE)


def test_a_day_that_is_not_over_is_stated_as_far_as_every_shard_has_closed() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "USDT")
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "USDT", START_MS + 10 * 60_000)
    closed_until(books.world, START_MS + 5 * 60_000)
    found = statement(books.world, DAY_ONE)
    assert (found.over, found.trades, found.holdings, found.adds_up) == (False, 1, {"XRP": D(1_000)}, True)
    assert "the day is not over" in text_of(books.world, DAY_ONE)


def test_without_a_mark_the_cash_is_stated_and_the_worth_is_not() -> None:
    books = open_books()
    books.world.instruments["XRPUSDT"].bar_set.all().delete()
    closed_until(books.world, MIDNIGHT_MS)
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "USDT")
    found = statement(books.world, DAY_ONE)
    assert (found.cash.adds_up, found.equity.closing, found.equity.unrealized) == (True, None, None)
    assert (found.equity.adds_up, found.unmarked) == (None, ("XRPUSDT",))
    assert "no price is known of XRPUSDT" in text_of(books.world, DAY_ONE)


def test_a_deposit_of_the_day_is_a_line_and_not_in_the_opening() -> None:
    world = open_world()
    day = date(2027, 1, 15)  # of its wall clock, as on a live feed
    span = day_of(day, "UTC")
    closed_until(world, span.end_ms)
    found = statement(world, day)
    assert (found.cash.opening, found.cash.deposits, found.cash.closing) == (D(0), D(100_000), D(100_000))
    assert (found.equity.opening, found.equity.closing, found.adds_up) == (D(0), D(100_000), True)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", date(2023, 3, 26), 23), ("Europe/Berlin", date(2023, 10, 29), 25), ("UTC", DAY_ONE, 24)],
)
def test_a_day_is_one_of_the_limits_time_zone(zone: str, day: date, hours: int) -> None:
    span = day_of(day, zone)
    assert (span.day, span.end_ms - span.first_ms) == (day, hours * HOUR_MS)
    world = open_world()
    RiskLimits.objects.update(trading_day_zone=zone)
    factories.EquityPointFactory.create(account=world.account, minute=span.first_ms // 60_000)
    closed_until(world, span.end_ms)
    assert (statement(world, day).begin_ms, statement(world, day).end_ms) == (span.first_ms, span.end_ms)


# --- the command ------------------------------------------------------------------------------------------------------


def text_of(world: World, day: date, *options: str) -> str:
    out = StringIO()
    call_command("statement", "--day", day.isoformat(), "--session", str(world.session.pk), *options, stdout=out)
    return out.getvalue()


def test_the_command_gives_the_same_for_machines() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "USDT")
    found = json.loads(text_of(books.world, DAY_ONE, "--json"))
    assert (found["adds_up"], found["cash"]["closing"], found["equity"]["closing"]) == (True, "98999", "100199")
    assert found["by_symbol"] == {"XRPUSDT": {"positions": 1, "realized": "0", "unrealized": "200", "fees": "1"}}
    total = sum(D(found["cash"][name]) for name in ("opening", "deposits", "corrections", "sold", "other"))
    assert total - D(found["cash"]["bought"]) - D(found["cash"]["fees"]) == D(found["cash"]["closing"])


def test_a_sum_that_is_wrong_is_said_and_exits_with_one() -> None:
    books = books_of_two_days()
    books.fill(Side.BUY, None, D(2_000), D("0.5"), "USDT")
    books.order.trades.update(price=D("0.4"))
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("statement", "--day", "2023-11-14", stdout=out)
    assert ended.value.code == 1
    assert "DO NOT ADD UP" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--day", "2023-11-15"), "no data of 2023-11-15"),
        (("--day", "2023-11-14", "--session", "0"), "there is no session 0"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    open_world()
    with pytest.raises(CommandError, match=words) as caught:
        call_command("statement", *arguments, stdout=StringIO())
    assert caught.value.returncode == 2


@pytest.mark.parametrize("day", ["yesterday", "2023-02-30", "14.11.2023"])
def test_what_is_no_day_is_refused(day: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, CommandError)) as caught:
        call_command("statement", "--day", day)
    assert day in str(caught.value) + capsys.readouterr().err
