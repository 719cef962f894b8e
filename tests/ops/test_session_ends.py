"""Sessions end once, with nothing left unsaid; what comes for one that has ended trades nothing."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.utils import IntegrityError, InternalError

from apps.engine.portfolio import Fill, Side
from apps.execution.models import Order, Trade
from apps.execution.tasks import apply_reports, match_orders, submit_order
from apps.market.models import FeedEpoch
from apps.ops.services.session_ends import EndRefused, end_due, end_session, open_of, wind_down
from apps.ops.services.sessions import end_unfit
from apps.portfolio.models import Account, Position, SessionReport, TradingSession
from apps.portfolio.selectors import current_session
from apps.portfolio.services import book_exit, lock_account, record_equity, save_account
from apps.risk.models import RiskDecision, RiskState, TradingState
from apps.risk.services import undecided_signals
from apps.risk.tasks import assess_signal, review_tier
from apps.signals.models import Signal
from tests import factories
from tests.factories import START_MINUTE
from tests.worlds import World, open_world

D = Decimal
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def opened(world: World, symbol: str = "XRPUSDT") -> Position:
    return factories.PositionFactory.create(
        account=world.account, instrument=world.instruments[symbol], quantity=D(100), cost=D(50)
    )


def end(world: World, **options: Any) -> SessionReport:
    return end_session(session_id=world.session.pk, by="mara", reason="enough", now=NOW, **options)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_session_ends_halted_with_who_why_and_a_report() -> None:
    world = open_world()
    report = end(world)
    session = TradingSession.objects.get()
    assert (session.ended_at, session.ended_by, session.end_reason) == (NOW, "mara", "enough")
    assert world.state.trading_state == TradingState.HALTED
    assert world.state.state_reason == "the session has ended: enough"
    assert (report.session, report.figures["ended_by"], report.figures["trades"]) == (session, "mara", 0)
    assert current_session() is None


def test_a_session_ends_once() -> None:
    world = open_world()
    end(world)
    with pytest.raises(EndRefused, match="has ended already, on 2026-11-21 at 12:00 UTC"):
        end(world)
    assert SessionReport.objects.count() == 1


@pytest.mark.parametrize(
    "statement", ["UPDATE portfolio_sessionreport SET figures = '{}'", "DELETE FROM portfolio_sessionreport"]
)
def test_a_report_stays_as_it_was(statement: str) -> None:
    end(open_world())
    with (
        pytest.raises((IntegrityError, InternalError), match="never changed or deleted"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_with_something_open_it_is_refused_and_nothing_has_changed() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    opened(world)
    world.approved(world.entry_signal("ADAUSDT"))
    with pytest.raises(EndRefused, match="1 position and 1 order open"):
        end(world)
    assert current_session() == world.session
    assert world.state.trading_state == TradingState.ACTIVE
    assert not SessionReport.objects.exists()


def test_what_is_left_open_on_purpose_is_counted() -> None:
    world = open_world()
    opened(world)
    assert end(world, leave_open=True).figures["open_positions"] == 1
    assert Position.objects.get().status == "open"


def test_orders_that_have_ended_are_nothing_open() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    assert open_of(world.session).orders == 1
    world.send(intent, age_ms=60_000)  # too old: it expires unsent
    assert not open_of(world.session)


# --- blocks of days ---------------------------------------------------------------------------------------------------


def test_a_block_ends_by_itself_when_its_time_is_over() -> None:
    world = open_world()
    TradingSession.objects.update(ends_at=NOW)
    assert end_due(now=NOW - timedelta(seconds=1)) == []
    (report,) = end_due(now=NOW)
    assert (report.session, report.figures["end_reason"]) == (world.session, "its time is over")
    assert end_due(now=NOW) == []
    assert TradingSession.objects.get().ended_by == "steward"


def test_a_session_without_an_end_goes_on() -> None:
    open_world()
    assert end_due(now=NOW + timedelta(days=1_000)) == []


def test_a_block_whose_time_is_over_opens_nothing_and_ends_with_its_last_position() -> None:
    world = open_world()
    position = opened(world)
    TradingSession.objects.update(ends_at=NOW)
    for _ in range(2):
        assert end_due(now=NOW) == []
        assert world.state.trading_state == TradingState.REDUCING
    denied = world.decide(world.entry_signal())
    assert denied is not None
    assert denied.reasons == ["REDUCING"]
    with transaction.atomic():
        account = lock_account(world.account.pk)
        fill = Fill(Side.SELL, D("0.5"), D(100), D(0), "USDT", position.opened_ts + 1)
        book_exit(account=account, position=position, reference="trade:paper:1", fill=fill)
        save_account(account)
    assert len(end_due(now=NOW)) == 1
    assert world.state.trading_state == TradingState.HALTED


def test_a_session_that_winds_down_does_so_at_once_and_not_later_than_it_would_have() -> None:
    world = open_world()
    opened(world)
    wind_down(session=world.session, by="mara", reason="enough", now=NOW)
    assert (world.state.trading_state, TradingSession.objects.get().ends_at) == (TradingState.REDUCING, NOW)
    wind_down(session=TradingSession.objects.get(), by="mara", reason="enough", now=NOW + timedelta(hours=1))
    assert TradingSession.objects.get().ends_at == NOW


def test_a_start_after_the_end_begins_with_an_epoch_of_its_own() -> None:
    world = open_world()
    end(world)
    assert FeedEpoch.objects.filter(ended_at=None).exists()
    assert end_unfit(tier="NORMAL", new_session=False)
    assert not FeedEpoch.objects.filter(ended_at=None).exists()


def test_a_start_that_ends_a_session_leaves_its_report() -> None:
    world = open_world()
    opened(world)
    assert end_unfit(tier="NORMAL", new_session=True)
    figures = SessionReport.objects.get(session=world.session).figures
    assert (figures["ended_by"], figures["end_reason"], figures["open_positions"]) == (
        "start", "another session was asked for", 1,
    )  # fmt: skip


# --- what comes for a session that has ended, or for none -------------------------------------------------------------


def test_a_signal_of_a_session_that_has_ended_is_denied_with_that_reason() -> None:
    world = open_world()
    position = opened(world)
    entry, leaving = world.entry_signal(), world.exit_signal(position)
    end(world, leave_open=True)
    for signal in (entry, leaving):
        decision = world.decide(signal)
        assert decision is not None
        assert decision.reasons[0] == "HALTED"
        assert "the session has ended: enough" in decision.sentence


def test_an_order_of_a_session_that_has_ended_is_not_sent() -> None:
    world = open_world()
    intent = world.approved(world.entry_signal())
    end(world, leave_open=True)
    assert world.send(intent) is None
    order = Order.objects.get()
    assert (order.status, "the session has ended" in order.reason) == ("DENIED", True)


def test_tasks_that_name_what_does_not_exist_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assess_signal(signal_id=7)
        submit_order(intent_id=7)
    match_orders(epoch=7, shard=0)
    assert "signal 7 does not exist" in caplog.text
    assert "intent 7 does not exist" in caplog.text
    assert not RiskDecision.objects.exists()
    assert not Trade.objects.exists()


def test_without_a_session_nothing_is_brought_up_again_and_no_equity_is_recorded() -> None:
    world = open_world()
    world.entry_signal()
    Signal.objects.update(created_at=NOW - timedelta(days=400))
    assert undecided_signals(older_than_ms=0)
    end(world)
    assert undecided_signals(older_than_ms=0) == []
    assert end_due(now=NOW) == []


def test_a_fill_that_comes_after_the_end_is_booked_all_the_same_and_its_tier_is_left_alone() -> None:
    """Money that moved is money that moved: the report said what was open."""
    world = open_world()
    intent = world.approved(world.entry_signal())
    order = world.send(intent)
    assert order is not None
    end(world, leave_open=True)
    apply_reports(order_id=order.pk)
    review_tier(account_id=world.account.pk)
    assert record_equity(account=world.account, minute=START_MINUTE, marks={}) is not None


# --- every row belongs to one -----------------------------------------------------------------------------------------

OF_NO_SESSION = {
    "execution.VenueOrder": "another house's book: it names the feed epoch",
    "execution.VenueTrade": "another house's book",
    "execution.DatabaseIncarnation": "which copy of the database this is",
    "execution.TradingStart": "a start of all processes, before any session trades",
    "signals.Strategy": "a rule, whoever runs it",
    "signals.StrategyVersion": "a rule, whoever runs it",
    "signals.EngineState": "what a shard of a feed epoch remembers",
    "signals.EvaluatedMinute": "what a shard of a feed epoch remembers",
    "signals.StrategyCall": "what a strategy said about a feed epoch, whoever listens",
}
ROOMS = ("portfolio", "signals", "risk", "execution")


def ways_to_a_session(model: type[models.Model], seen: frozenset[type[models.Model]] = frozenset()) -> list[str]:
    """Chains of required foreign keys that lead to a session, as lookups."""
    found = []
    for field in model._meta.get_fields():
        if not isinstance(field, models.ForeignKey) or field.null:
            continue
        target = field.related_model
        assert isinstance(target, type)
        if target is TradingSession:
            found.append(field.name)
        elif target not in seen:
            found += [f"{field.name}__{way}" for way in ways_to_a_session(target, seen | {model})]
    return found


def test_every_row_of_money_and_of_decisions_belongs_to_one_session() -> None:
    from django.apps import apps

    rows = [model for room in ROOMS for model in apps.get_app_config(room).get_models()]
    without = {model._meta.label for model in rows if model is not TradingSession and not ways_to_a_session(model)}
    assert without == set(OF_NO_SESSION)
    assert len(rows) > 25


def test_whichever_way_a_row_is_followed_it_is_the_same_session() -> None:
    from django.apps import apps

    from tests.admin.rows import make_everything

    make_everything()
    compared = 0
    for room in ROOMS:
        for model in apps.get_app_config(room).get_models():
            ways = [] if model is TradingSession else ways_to_a_session(model)
            for row in model._default_manager.values_list(*ways) if len(ways) > 1 else ():
                compared += 1
                assert len(set(row)) == 1, (model, dict(zip(ways, row, strict=True)))
    assert compared > 5


def test_an_account_of_a_session_without_risk_state_can_end_too() -> None:
    session = factories.TradingSessionFactory.create()
    account = factories.AccountFactory.create(session=session)
    end_session(session_id=session.pk, by="mara", reason="enough", now=NOW)
    assert not RiskState.objects.filter(account=account).exists()
    assert Account.objects.get().cash == account.cash
