"""`manage.py session`: what it says, what it refuses, and how a new session is begun."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.engine.portfolio import Fill, Side
from apps.execution.models import Order, Trade
from apps.market.models import FeedEpoch
from apps.ops.management.commands.session import Command
from apps.ops.selectors.session_figures import figures_of, period_of, uptime
from apps.ops.stack.runtime import block_fault
from apps.portfolio.models import Position, SessionReport, TradingSession
from apps.portfolio.services import record_equity
from apps.risk.models import TradingState
from apps.risk.services import set_trading_state
from tests import factories
from tests.execution.venues import ScriptedVenue
from tests.factories import START_MINUTE, START_MS
from tests.worlds import World, fresh, open_world

D = Decimal
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def run(*arguments: str, by: Command | None = None) -> str:
    out = StringIO()
    call_command(by or Command(), *arguments, stdout=out)
    return out.getvalue()


def refused(*arguments: str, by: Command | None = None) -> str:
    with pytest.raises(CommandError) as caught:
        run(*arguments, by=by)
    assert caught.value.returncode == 2
    return str(caught.value)


class Restarts(Command):
    """The command, that notes what it would have let the stack do in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    def restart(self, arguments: list[str]) -> None:
        self.asked.append(arguments)


def round_trip(world: World, number: int, bought: str, sold: str, *, coin: str = "USDT") -> None:
    """A position of 1 000, closed again, each trade with a fee of 0.5 in `coin`."""
    instrument = world.instruments["XRPUSDT"]
    order = _order(world)
    fields = {"order": order, "instrument": instrument, "quantity": D(1_000), "fee": D("0.5"), "fee_currency": coin}
    gain = (D(sold) - D(bought)) * 1_000
    position = factories.PositionFactory.create(
        account=world.account, instrument=instrument, status="closed", quantity=D(0), opened_ts=START_MS,
        closed_ts=START_MS + number, realized=gain, fees=D(1) if coin == "USDT" else D(0),
        fees_unvalued={} if coin == "USDT" else {coin: "1"},
    )  # fmt: skip
    for side, price in (("BUY", bought), ("SELL", sold)):
        factories.TradeFactory.create(
            **fields, position=position, side=side, price=D(price), trade_id=f"{world.session.pk}-{number}{side}"
        )


def _order(world: World) -> Order:
    known = Order.objects.filter(account=world.account).first()
    if known is not None:
        return known
    decision = factories.RiskDecisionFactory.create(
        signal=world.entry_signal(), account=world.account, limits=world.account.limits.get()
    )
    return factories.OrderFactory.create(intent=factories.OrderIntentFactory.create(decision=decision), status="FILLED")


# --- without a session ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("stop",), ("report",)])
def test_without_a_session_it_says_that_nothing_is_traded_and_what_to_do(arguments: tuple[str, ...]) -> None:
    words = refused(*arguments)
    assert "nothing is traded" in words
    assert "stack restart --new-session" in words


def test_without_a_session_the_list_says_so_too() -> None:
    assert "nothing is traded" in run("list")
    assert json.loads(run("list", "--json")) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("risk", ("show",)), ("risk", ("halt", "--reason", "r")), ("tier", ("show",)), ("verify", ()),
        ("ledger", ("balances",)), ("statement", ("--day", "2026-01-01")),
    ],
)  # fmt: skip
def test_every_command_that_needs_a_session_says_in_one_line_how_to_get_one(
    name: str, arguments: tuple[str, ...]
) -> None:
    world = open_world()
    TradingSession.objects.filter(pk=world.session.pk).update(ended_at=NOW)
    with pytest.raises(CommandError) as caught:
        call_command(name, *arguments, stdout=StringIO())
    assert "session" in str(caught.value)
    assert "make demo" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- stop -------------------------------------------------------------------------------------------------------------


def test_a_stop_ends_the_session_and_prints_its_report() -> None:
    open_world()
    words = run("stop", "--by", "mara", "--reason", "enough")
    assert "ended by mara: enough" in words
    assert SessionReport.objects.get().figures["ended_by"] == "mara"
    assert "nothing is traded" in refused("stop")


def test_a_stop_with_something_open_is_refused_with_what_can_be_said() -> None:
    world = open_world()
    factories.PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    words = refused("stop")
    assert "1 position and 0 orders open" in words
    assert all(choice in words for choice in ("--when-flat", "--flatten", "--leave-open"))
    assert TradingSession.objects.get().ended_at is None
    run("stop", "--leave-open", "--by", "mara")
    assert TradingSession.objects.get().ended_at is not None


def test_a_stop_when_flat_opens_nothing_more_and_leaves_the_end_to_the_steward() -> None:
    world = open_world()
    factories.PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    assert "ends with the last of 1 position" in run("stop", "--when-flat", "--by", "mara")
    session = TradingSession.objects.get()
    assert (session.ended_at, world.state.trading_state) == (None, TradingState.REDUCING)
    assert session.ends_at is not None
    assert session.ends_at <= datetime.now(UTC)


def test_a_stop_when_flat_with_nothing_open_ends_at_once() -> None:
    open_world()
    run("stop", "--when-flat", "--by", "mara")
    assert SessionReport.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_stop_that_flattens_raises_an_exit_for_every_position_and_then_winds_down() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    venue = ScriptedVenue()
    venue.fill("t1", "BUY", "4000")
    from apps.execution.services import submit_order, sync_order

    now_ms = int(intent.created_at.timestamp() * 1000)
    order = submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
    assert order is not None
    venue.status = type(venue.status)("filled")
    sync_order(order_id=order.pk, venue=venue)
    assert "1 exits raised" in run("stop", "--flatten", "--by", "mara")
    assert Position.objects.get().exit_signals.get().exit_reason == "flatten"
    assert TradingSession.objects.get().ends_at is not None


def test_a_flatten_while_halted_is_refused_and_the_session_goes_on() -> None:
    world = open_world()
    factories.PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    set_trading_state(account_id=world.account.pk, to_state=TradingState.HALTED, set_by="mara", reason="odd")
    assert "halted" in refused("stop", "--flatten")
    assert TradingSession.objects.get().ends_at is None


# --- start ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def restarts() -> Restarts:
    """`session start`, with what it asks of the stack in its own place."""
    return Restarts()


def test_a_start_ends_what_runs_and_restarts_everything_with_the_new_session(restarts: Restarts) -> None:
    world = open_world()
    run("start", "--name", "Paper block 3", "--days", "3", "--tier", "normal", "--by", "mara", by=restarts)
    assert restarts.asked == [
        ["restart", "--new-session", "--name", "Paper block 3", "--days", "3", "--tier", "NORMAL"]
    ]
    assert SessionReport.objects.get(session=world.session).figures["end_reason"] == "Paper block 3 begins"


def test_a_start_without_a_session_only_restarts(restarts: Restarts) -> None:
    run("start", by=restarts)
    assert restarts.asked == [["restart", "--new-session"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--days", "0"), "1 to 365 days, not 0"),
        (("--days", "366"), "not 366"),
        (("--name", "x" * 101), "at most 100 characters"),
        (("--name", " two  words"), "one space apart"),
    ],
)
def test_a_start_that_cannot_be_is_refused_before_anything_ends(
    arguments: tuple[str, ...], words: str, restarts: Restarts
) -> None:
    open_world()
    assert words in refused("start", *arguments, by=restarts)
    assert TradingSession.objects.get().ended_at is None
    assert restarts.asked == []


def test_a_start_leaves_nothing_open_unasked(restarts: Restarts) -> None:
    world = open_world()
    factories.PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    assert "--leave-open" in refused("start", by=restarts)
    assert restarts.asked == []
    run("start", "--leave-open", "--by", "mara", by=restarts)
    assert len(restarts.asked) == 1


def test_a_name_and_a_length_that_can_be_are_no_fault() -> None:
    assert block_fault("Paper block 3", 3) == block_fault("", None) == ""


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_rows() -> None:
    world = open_world()
    for number, (bought, sold) in enumerate((("0.5", "0.51"), ("0.5", "0.49"), ("0.5", "0.52"))):
        round_trip(world, number, bought, sold)
    round_trip(world, 9, "0.5", "0.5", coin="MX")
    for minute, equity in ((0, 100_000), (1, 100_010), (2, 99_909), (3, 100_020)):
        factories.EquityPointFactory.create(
            account=world.account, minute=START_MINUTE + minute, cash=D(equity), equity=D(equity)
        )
    found = figures_of(world.session, world.session.started_at + timedelta(hours=5))
    wanted = {
        "trades": 8, "round_trips": 4, "won": 2, "win_rate": 0.5, "gross": "20", "fees": "3", "net": "17",
        "fees_unvalued": {"MX": "1"}, "minutes": 300, "open_positions": 0, "turnover": "4020", "corrections": 0,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert found["profit_factor"] == pytest.approx(28 / 11)
    assert found["max_drawdown"] == pytest.approx(101 / 100_010)
    assert found["max_drawdown_amount"] == "101"
    assert found["config"] == world.session.config


def test_denials_are_counted_by_their_first_reason() -> None:
    world = open_world()
    set_trading_state(account_id=world.account.pk, to_state=TradingState.REDUCING, set_by="mara", reason="odd")
    for _ in range(3):
        world.decide(world.entry_signal())
    found = figures_of(world.session, NOW)
    assert (found["signals"], found["denied"], found["denied_by_reason"]) == (3, 3, {"REDUCING": 3})


def test_uptime_is_the_share_of_the_time_in_which_an_ingest_reported() -> None:
    session = factories.TradingSessionFactory.create()
    TradingSession.objects.update(started_at=NOW)
    session.refresh_from_db()
    assert uptime(session, NOW) is None
    assert uptime(session, NOW + timedelta(hours=4)) == 0
    for began, seen in ((-60, 60), (30, 90), (180, 300)):  # minutes: before the start, overlapping, past the end
        row = factories.IngestRunFactory.create(epoch=session.epoch, last_seen_at=NOW + timedelta(minutes=seen))
        type(row).objects.filter(pk=row.pk).update(started_at=NOW + timedelta(minutes=began))
    assert uptime(session, NOW + timedelta(hours=4)) == pytest.approx(150 / 240)


def test_a_report_of_a_running_session_says_that_it_will_change() -> None:
    world = open_world()
    assert "it still runs" in run("report")
    figures = json.loads(run("report", "--json"))
    assert (figures["frozen"], figures["session"]) == (False, world.session.pk)


def test_a_report_of_an_ended_session_is_what_was_frozen_whatever_comes_later() -> None:
    world = open_world()
    run("stop", "--by", "mara")
    before = json.loads(run("report", str(world.session.pk), "--json"))
    assert before["frozen"]
    round_trip(world, 1, "0.5", "0.6")
    assert json.loads(run("report", str(world.session.pk), "--json")) == before
    assert "it still runs" not in run("report")
    assert f"there is no session {world.session.pk + 1}" in refused("report", str(world.session.pk + 1))


def test_the_list_shows_every_session_with_its_result() -> None:
    world = open_world()
    round_trip(world, 1, "0.5", "0.6")
    run("stop", "--by", "mara")
    factories.TradingSessionFactory.create(name="the next")
    rows = json.loads(run("list", "--json"))
    assert [(row["name"], row["net"], row["ended_at"] is None) for row in rows] == [
        ("the next", None, True), (world.session.name, "99", False),
    ]  # fmt: skip
    assert "runs" in run("list")


@pytest.mark.parametrize(("minutes", "period"), [(0, 1), (100, 1), (2 * 1_440, 60), (30 * 1_440, 1_440)])
def test_long_sessions_are_measured_in_longer_periods(minutes: int, period: int) -> None:
    curve = [(START_MINUTE, D(1)), (START_MINUTE + minutes - 1, D(1))] if minutes else []
    assert period_of(curve) == period


def test_a_report_counts_a_fill_through_the_road_to_the_digit() -> None:
    world = open_world()
    fill = Fill(Side.BUY, D("0.5"), D(1_000), D("0.25"), "USDT", START_MS)
    position = factories.PositionFactory.create(
        account=world.account,
        instrument=world.instruments["XRPUSDT"],
        quantity=fill.quantity,
        cost=D(500),
        fees=fill.fee,
    )
    factories.TradeFactory.create(order=_order(world), position=position, quantity=fill.quantity, fee=fill.fee)
    for kind, currency, amount in (("cash", "USDT", "-500.25"), ("asset", "XRP", "1000"), ("fee", "USDT", "0.25")):
        factories.LedgerEntryFactory.create(
            account=world.account, reference="trade:paper:1", leg={"cash": 0, "asset": 1, "fee": 2}[kind], kind=kind,
            currency=currency, amount=D(amount),
        )  # fmt: skip
    found: dict[str, Any] = figures_of(world.session, NOW)
    assert (found["trades"], found["unrealized"], found["equity"]) == (1, "0", "99999.75")
    assert found["fees_by_currency"] == {"USDT": "0.25"}
    assert (Trade.objects.count(), FeedEpoch.objects.count()) == (1, 1)
    assert record_equity(account=world.account, minute=START_MINUTE, marks={"XRPUSDT": D("0.5")}) is not None
