"""Who writes a row, what it hangs on, and what survives a start, a migration and an emptied Redis."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import models

from apps.execution.models import Order, OrderStatus, Trade
from apps.ops.verify.money_checks import check_decisions, check_exposure, check_money
from apps.ops.verify.result import Check
from apps.portfolio.models import Position, TradingSession
from apps.risk.models import OrderIntent, RiskDecision, RiskState, TradingState
from apps.risk.services import set_trading_state
from apps.signals.models import Signal
from tests.factories import TradingSessionFactory
from tests.house.sources import python_files
from tests.worlds import open_world

WRITERS: Final = {
    "Signal": "apps/signals/",
    "RiskDecision": "apps/risk/",
    "OrderIntent": "apps/risk/",
    "Reservation": "apps/portfolio/",
    "LedgerEntry": "apps/portfolio/",
    "Position": "apps/portfolio/",
    "EquityPoint": "apps/portfolio/",
    "Order": "apps/execution/",
    "OrderEvent": "apps/execution/",
    "Trade": "apps/execution/",
}
MAKING: Final = {"create", "get_or_create", "update_or_create", "bulk_create"}


def makers(model: str) -> set[str]:
    """Files of the application that make rows of this model."""
    return {
        source.name
        for source in python_files("apps")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _makes(node.func, model)
    }


def _makes(function: ast.expr, model: str) -> bool:
    if isinstance(function, ast.Name):
        return function.id == model
    return (
        isinstance(function, ast.Attribute)
        and function.attr in MAKING
        and ast.unparse(function.value) == f"{model}.objects"
    )


@pytest.mark.parametrize(("model", "app"), WRITERS.items())
def test_each_record_of_the_road_is_made_in_one_place_only(model: str, app: str) -> None:
    found = makers(model)
    assert len(found) == 1, found
    assert found.pop().startswith(app)


@pytest.mark.parametrize(
    ("model", "link"),
    [
        (RiskDecision, "signal"),
        (OrderIntent, "decision"),
        (Order, "intent"),
        (Trade, "order"),
        (Trade, "position"),
    ],
)
def test_no_record_of_the_road_stands_without_the_one_before_it(model: type[models.Model], link: str) -> None:
    field = model._meta.get_field(link)
    assert isinstance(field, models.ForeignKey)
    assert not field.null
    assert field.remote_field.on_delete is models.PROTECT


# --- words ------------------------------------------------------------------------------------------------------------

STATUS_FIELDS: Final = {"status", "verdict", "trading_state"}
COMPARED: Final = re.compile(rf"^(?:\w+__)?({'|'.join(STATUS_FIELDS)})(?:__(?:in|exact|iexact))?$")


def stored_words() -> set[str]:
    """Every status that any of our tables may hold."""
    return {
        str(value)
        for model in (OrderStatus, RiskDecision.Verdict, Position.Status, TradingState)
        for value in model.values
    } | {"open", "filled", "expired", "backfilled", "unproven"}


def test_no_query_asks_for_a_status_that_is_spelt_otherwise_than_it_is_stored() -> None:
    asked = {
        (source.name, constant.value)
        for source in python_files("apps")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.keyword) and node.arg and COMPARED.match(node.arg)
        for constant in ast.walk(node.value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    assert asked
    assert not {(name, word) for name, word in asked if word not in stored_words()}


# --- times ------------------------------------------------------------------------------------------------------------


def naive_times(text: str) -> list[str]:
    """Calls that give a time without a zone."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, given = node.func.attr, len(node.args) + len(node.keywords)
        of_datetime = ast.unparse(node.func.value) in {"datetime", "datetime.datetime"}
        if of_datetime and (name.startswith("utc") or (name, given) in {("now", 0), ("fromtimestamp", 1)}):
            found.append(ast.unparse(node))
    return found


def test_no_time_is_without_a_zone() -> None:
    assert naive_times("datetime.now(); datetime.utcnow(); datetime.fromtimestamp(1)")
    assert not [(source.name, call) for source in python_files() for call in naive_times(source.text)]
    assert settings.USE_TZ


@pytest.mark.django_db
def test_a_time_comes_back_from_the_database_in_utc() -> None:
    TradingSessionFactory.create()
    assert TradingSession.objects.get().started_at.utcoffset() == timedelta(0)


# --- what survives ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_migrating_again_keeps_every_row() -> None:
    world = open_world()
    world.approved(world.entry_signal())
    call_command("migrate", verbosity=0)
    assert (Signal.objects.count(), RiskDecision.objects.count()) == (1, 1)
    assert world.cash() == 100_000


def test_no_migration_throws_a_table_away() -> None:
    words = re.compile(r"\bDeleteModel\b|(?i:\bdrop\s+(table|schema)\b|\btruncate\b|\bdelete\s+from\b)")
    found = {source.name for source in python_files("apps") if "/migrations/" in source.name}
    assert len(found) > 5
    assert not [s.name for s in python_files("apps") if "/migrations/" in s.name and words.search(s.text)]


@pytest.mark.django_db
def test_a_halt_outlives_an_emptied_redis(redis_client: redis.Redis) -> None:
    world = open_world()
    set_trading_state(account_id=world.account.pk, to_state=TradingState.HALTED, set_by="mara", reason="odd")
    redis_client.flushall()
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert decision.reasons == ["HALTED"]
    assert RiskState.objects.get(account=world.account).state_set_by == "mara"


# --- proofs -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("check", [check_decisions, check_money, check_exposure])
def test_a_check_of_a_session_in_which_nothing_happened_has_not_passed(
    check: Callable[[TradingSession], Check],
) -> None:
    row = check(TradingSessionFactory.create()).row()
    assert (row["ok"], row["compared"]) == (False, 0)
    assert "nothing is proven" in str(row["detail"])
