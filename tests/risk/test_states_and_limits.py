"""Halting, reducing, resuming, and new versions of limits."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.portfolio.models import Account, TradingSession
from apps.risk.models import RiskLimits, RiskState, RiskStateChange, TradingState
from apps.risk.services import LimitError, change_limits, install_risk, parse_limits, set_trading_state
from apps.risk.services.limits import RANGES
from tests.factories import PositionFactory
from tests.worlds import World, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def set_state(world: World, state: str) -> Any:
    return set_trading_state(
        account_id=world.account.pk, to_state=TradingState(state), set_by="mara", reason="a good reason"
    )


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("risk", *arguments, stdout=output)
    return output.getvalue()


def test_a_change_of_state_is_kept_with_who_why_and_a_sequence_number() -> None:
    world = open_world()
    before = Account.objects.get(pk=world.account.pk).sequence
    change = set_state(world, "HALTED").change
    assert (change.from_state, change.to_state, change.set_by, change.reason) == (
        "ACTIVE", "HALTED", "mara", "a good reason",
    )  # fmt: skip
    assert change.sequence == before + 1 == Account.objects.get(pk=world.account.pk).sequence
    state = world.state
    assert (state.trading_state, state.state_set_by, state.sequence) == ("HALTED", "mara", change.sequence)


def test_setting_the_state_that_is_already_set_changes_nothing() -> None:
    world = open_world()
    set_state(world, "REDUCING")
    assert set_state(world, "REDUCING").change is None
    assert RiskStateChange.objects.count() == 1


def test_resuming_brings_back_the_exits_that_were_denied_while_halted() -> None:
    world = open_world()
    position = PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    other = PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    RiskState.objects.update(exposure=D(100), marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    set_state(world, "HALTED")
    decision = world.decide(world.exit_signal(position))
    assert decision is not None
    assert decision.reasons == ["HALTED"]
    epoch = Account.objects.get(pk=world.account.pk).portfolio_epoch
    done = set_state(world, "ACTIVE")
    assert (done.open_positions, done.exits_brought_back) == (2, 1)
    position.refresh_from_db()
    other.refresh_from_db()
    assert (position.exit_attempts, other.exit_attempts) == (1, 0)
    assert Account.objects.get(pk=world.account.pk).portfolio_epoch > epoch
    assert world.approved(world.exit_signal(position)).position == position


def test_a_time_exit_that_is_brought_back_is_due_after_the_time_reached_meanwhile() -> None:
    world = open_world()
    position = PositionFactory.create(account=world.account, instrument=world.instruments["XRPUSDT"])
    RiskState.objects.update(exposure=D(50), marks={"minute": 1, "prices": {"XRPUSDT": "0.5"}})
    set_state(world, "HALTED")
    world.decide(world.exit_signal(position, ts_event=position.due_ts))
    world.reach(position.due_ts + 7_200_000)
    set_state(world, "REDUCING")
    position.refresh_from_db()
    assert position.due_ts >= position.opened_ts + 3_600_000 + 7_200_000


def test_a_new_version_of_limits_keeps_the_others_and_is_the_one_in_force() -> None:
    world = open_world()
    before, after = change_limits(
        account_id=world.account.pk, changes={"exposure_max": D("0.3")}, set_by="mara", reason="calmer"
    )
    assert (before.version, after.version) == (1, 2)
    assert (before.exposure_max, after.exposure_max) == (D("0.5"), D("0.3"))
    assert after.order_size == before.order_size
    assert RiskLimits.objects.count() == 2
    decision = world.decide(world.entry_signal())
    assert decision is not None
    assert decision.limits == after


def test_installing_risk_twice_changes_nothing() -> None:
    world = open_world()
    install_risk(account=world.account, set_by="somebody", reason="again")
    limits = RiskLimits.objects.get()
    assert limits.set_by == "tester"
    assert RiskState.objects.count() == 1


def test_every_limit_of_the_table_has_a_range_that_its_default_lies_in() -> None:
    world = open_world()
    limits = RiskLimits.objects.get(account=world.account)
    limits.refresh_from_db()
    for name, (smallest, largest) in RANGES.items():
        assert smallest <= getattr(limits, name) <= largest, name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exposure_max", "is not of the form name=value"),
        ("exposure=0.3", "unknown limit 'exposure'"),
        ("exposure_max=0,3", "is not a number"),
        ("exposure_max=-1", "is not a number"),
        ("exposure_max=30", "from 0.0001 to 1"),
        ("exposure_max=NaN", "is not a number"),
        ("exposure_max=1e-1", "is not a number"),
        ("exposure_max=", "is not a number"),
        ("exposure_max=٠.٣", "is not a number"),
        ("open_orders_max=2.5", "is not a whole number"),
        ("open_orders_max=1001", "from 0 to 1\u202f000"),
        ("exposure_max=0.1234567", "at most six decimals"),
    ],
)
def test_a_limit_that_cannot_be_set_is_refused_with_one_line(text: str, words: str) -> None:
    with pytest.raises(LimitError) as refusal:
        parse_limits([text])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_limit_that_is_named_twice_is_refused() -> None:
    with pytest.raises(LimitError, match="given twice"):
        parse_limits(["exposure_max=0.3", "exposure_max=0.4"])


# --- the command ------------------------------------------------------------------------------------------------------


def test_halt_says_that_exits_stop_too_and_how_many_positions_that_concerns() -> None:
    world = open_world()
    PositionFactory.create(account=world.account)
    output = run("halt", "--reason", "feed looks  odd", "--by", "mara")
    assert "ACTIVE -> HALTED by mara: feed looks odd" in output
    assert "exits neither: 1 open position without stop" in output
    assert world.state.trading_state == "HALTED"


def test_reduce_and_resume_say_what_they_mean() -> None:
    open_world()
    assert "Nothing is opened any more; exits go on for 0 open positions." in run("reduce", "--reason", "calm")
    assert "Trading goes on within the limits" in run("resume", "--reason", "calm again")
    assert "already; nothing changed" in run("resume", "--reason", "calm again")


def test_the_state_is_set_by_the_operating_system_user_unless_somebody_is_named() -> None:
    world = open_world()
    run("reduce", "--reason", "calm")
    assert world.state.state_set_by not in ("", "tester")


def test_show_prints_json_with_exact_numbers() -> None:
    world = open_world()
    world.decide(world.entry_signal())
    report = json.loads(run("show", "--json"))
    assert report["trading_state"] == "ACTIVE"
    assert (report["exposure"], report["exposure_limit"]) == ("2040", "50000")
    assert (report["cash"], report["free_cash"]) == ("100000", "97958.98")
    assert report["limits"]["exposure_max"] == "0.5"
    assert report["open_orders"] == 1


def test_show_is_readable() -> None:
    open_world()
    output = run("show").replace("\u202f", " ")
    assert output.startswith("ACTIVE since ")
    assert "exposure   0 of 50 000 USDT" in output
    assert "limits version 1, set by tester: a test begins" in output


def test_limits_set_adds_a_version_and_shows_what_changed() -> None:
    open_world()
    output = run("limits", "set", "exposure_max=0.3", "open_orders_max=5", "--reason", "calmer", "--by", "mara")
    assert "limits version 2 by mara: calmer" in output
    assert "exposure_max             0.5 -> 0.3" in output
    assert "open_orders_max          10 -> 5" in output
    assert "order_size" not in output
    assert "limits version 2" in run("limits")


@pytest.mark.parametrize(
    "arguments",
    [
        ("halt",),
        ("halt", "--reason", "   "),
        ("halt", "--reason", "x" * 201),
        ("halt", "--reason", "x", "--by", "y" * 151),
        ("limits", "set", "exposure_max=0,3", "--reason", "x"),
        ("limits", "set", "--reason", "x"),
        ("limits", "set", "exposure_max=0.3"),
        ("stop",),
    ],
)
def test_bad_input_is_refused_with_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    world = open_world()
    with pytest.raises(CommandError) as refusal:
        run(*arguments)
    assert refusal.value.returncode == 2 or "required" in str(refusal.value) or "invalid choice" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert world.state.trading_state == "ACTIVE"
    assert RiskLimits.objects.count() == 1


def test_without_a_running_session_the_command_is_refused() -> None:
    open_world()
    TradingSession.objects.update(ended_at="2026-01-01T00:00:00Z")
    with pytest.raises(CommandError, match="no session is running") as refusal:
        run("show")
    assert refusal.value.returncode == 2
