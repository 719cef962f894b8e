"""Flatten sells every position once, on the normal road; and what the command refuses while a cause persists."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Position
from apps.risk.models import (
    RiskState,
    StateRefusal,
)
from apps.risk.services.flattening import flatten
from apps.risk.services.states import StateRefused
from apps.signals.models import Signal
from tests.factories import PositionFactory, SessionStrategyFactory
from tests.risk.tripping import HALTED, REDUCING, ask, trip
from tests.worlds import World, open_world

NOW_MS = 1_800_000_000_000
pytestmark = pytest.mark.django_db


# --- flatten ----------------------------------------------------------------------------------------------------------


def held(world: World, symbol: str = "XRPUSDT") -> Position:
    return PositionFactory.create(
        account=world.account, instrument=world.instruments[symbol], strategy_version_id=world.version.pk
    )


def sell_all(world: World, reason: str = "enough") -> Any:
    return flatten(account_id=world.account.pk, set_by="mara", reason=reason, now_ms=NOW_MS)


def test_flatten_reduces_and_sells_every_position_once_however_often_it_is_pressed() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT"])
    positions = [held(world, symbol) for symbol in world.instruments]
    RiskState.objects.update(exposure=100, marks={"minute": 1, "prices": {"XRPUSDT": "0.5", "ADAUSDT": "0.5"}})
    first, second = sell_all(world), sell_all(world)
    assert (len(first.raised), len(second.raised), second.on_the_way) == (2, 0, 2)
    assert (world.state.trading_state, first.change.set_by) == (REDUCING, "mara")
    rows = Signal.objects.filter(exit_reason=Signal.ExitReason.FLATTEN).order_by("position")
    assert [row.position for row in rows] == positions
    assert OutboxEvent.objects.filter(event_type="SignalRaised").count() == 2
    for row in rows:
        intent = world.approved(row)
        assert (intent.reducing, intent.side, intent.position) == (True, "SELL", row.position)
    assert sell_all(world).on_the_way == 2


def test_flatten_is_refused_while_halted_because_exits_stop_too() -> None:
    world = open_world()
    held(world)
    ask(world, HALTED)
    with pytest.raises(StateRefused, match="stops exits too"):
        sell_all(world)
    assert not Signal.objects.exists()


def test_what_was_sold_in_vain_may_be_flattened_again() -> None:
    world = open_world()
    position = held(world)
    RiskState.objects.update(exposure=50, marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    ask(world, HALTED)
    denied = world.decide(world.exit_signal(position))
    assert denied is not None
    RiskState.objects.update(trading_state=REDUCING, asked_state=REDUCING)  # so that nothing is revived meanwhile
    assert len(sell_all(world).raised) == 1
    assert Signal.objects.latest("id").trigger_key == f"x:{position.pk}:1"


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("risk", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_refuses_to_resume_while_a_cause_persists_and_keeps_that() -> None:
    world = open_world()
    trip(world)
    with pytest.raises(CommandError, match="refused: ERROR_RATE persists") as refused:
        run("resume", "--reason", "why not", "--by", "mara")
    assert refused.value.returncode == 2
    row = StateRefusal.objects.get()
    assert (row.asked, row.set_by, row.reason) == ("ACTIVE", "mara", "why not")
    assert world.state.trading_state == REDUCING
    assert "trip ERROR_RATE, REDUCING since" in run("show")
    assert "way back: a person" in run("show")


def test_the_command_flattens() -> None:
    world = open_world()
    SessionStrategyFactory.create(session=world.session, version=world.version)
    held(world)
    words = run("flatten", "--reason", "enough")
    assert words == "ACTIVE -> REDUCING: nothing is opened any more. 1 position will be sold.\n"
    assert "0 positions will be sold; 1 already on the way." in run("flatten", "--reason", "enough")
