"""Versions of strategies: who, why, what changed; checked by the strategy, and never changed again."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, InternalError, connection, transaction

from apps.engine.strategies import STRATEGIES
from apps.signals.models import ParameterSchedule, Strategy, StrategyVersion
from apps.signals.services.versions import VersionRefused, add_version, checked, differences, version_with
from apps.staff.frozen import Frozen
from tests import factories
from tests.worlds import open_world

pytestmark = pytest.mark.django_db

HASH = "a" * 64


def add(**changes: Any) -> StrategyVersion:
    return add_version(name="momentum", changes=changes, author="oli", reason="a test", engine_hash=HASH)


def strategy(*arguments: str) -> str:
    out = io.StringIO()
    call_command("strategy", *arguments, stdout=out)
    return out.getvalue()


# --- adding -----------------------------------------------------------------------------------------------------------


def test_the_first_version_has_the_strategys_defaults_and_every_next_one_what_was_changed() -> None:
    first = add()
    second = add(threshold_pct="1.5", stop_loss_pct="1.50")
    assert (first.version, second.version) == (1, 2)
    assert first.parameters == {spec.name: spec.default for spec in STRATEGIES["momentum"].parameters}
    assert second.parameters == {**first.parameters, "threshold_pct": 1.5, "stop_loss_pct": "1.5"}
    assert second.changes == {"threshold_pct": [2.0, 1.5], "stop_loss_pct": ["2", "1.5"]}
    assert (second.author, second.reason, second.engine_hash) == ("oli", "a test", HASH)
    assert "rise over a window" in Strategy.objects.get().description


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold_pct": "200"}, "threshold_pct=200 is not from 0.01 to 100 (per cent)"),
        ({"threshold_pct": "much"}, "threshold_pct='much' is not a number of per cent"),
        ({"lookback_minutes": 2.5}, "lookback_minutes=2.5 must be a whole number (minutes)"),
        ({"rsi_min": -1}, "rsi_min=-1 is not from 0 to 100 (points from 0 to 100)"),
        ({"treshold_pct": 1}, "there is no parameter treshold_pct"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_unit_and_bounds(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(VersionRefused) as refusal:
        add(**changes)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not StrategyVersion.objects.exists()


@pytest.mark.parametrize(("author", "reason"), [("", "why"), ("oli", "  "), ("o" * 151, "why"), ("oli", "w" * 201)])
def test_nobody_adds_a_version_without_name_and_reason(author: str, reason: str) -> None:
    with pytest.raises(VersionRefused, match="say wh"):
        add_version(name="momentum", changes={}, author=author, reason=reason, engine_hash=HASH)


def test_a_strategy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(VersionRefused, match="there is no strategy astrology"):
        add_version(name="astrology", changes={}, author="oli", reason="why", engine_hash=HASH)
    assert not Strategy.objects.exists()


def test_the_same_parameters_under_the_same_sources_are_the_same_version() -> None:
    wanted: dict[str, Any] = {"name": "momentum", "author": "system", "reason": "a session begins"}
    parameters = checked("momentum", {"threshold_pct": "3.0"})
    first = version_with(parameters=parameters, engine_hash=HASH, **wanted)
    assert version_with(parameters={**parameters, "rsi_min": 50}, engine_hash=HASH, **wanted) == first
    assert version_with(parameters=parameters, engine_hash="b" * 64, **wanted).version == 2
    assert version_with(parameters={**parameters, "rsi_min": 51}, engine_hash=HASH, **wanted).version == 3


def test_differences_name_what_only_one_side_has() -> None:
    assert differences({"a": 1, "b": 2}, {"b": 3, "c": None}) == {"a": [1, None], "b": [2, 3], "c": [None, None]}
    assert differences({"a": 1}, {"a": 1.0}) == {}


# --- frozen -----------------------------------------------------------------------------------------------------------


def frozen_rows() -> list[StrategyVersion | ParameterSchedule]:
    version = add()
    session = factories.TradingSessionFactory.create()
    schedule = ParameterSchedule.objects.create(
        session=session, base=version, version=version, from_minute=7, set_by="oli", reason="a test"
    )
    return [schedule, version]


@pytest.mark.parametrize("number", [0, 1], ids=["schedule", "version"])
def test_what_was_judged_by_can_neither_be_saved_again_nor_deleted(number: int) -> None:
    row = frozen_rows()[number]
    with pytest.raises(Frozen, match="add a new one"):
        row.save()
    with pytest.raises(Frozen, match="it stays"):
        row.delete()


@pytest.mark.parametrize("number", [0, 1], ids=["schedule", "version"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id + 1000", "DELETE FROM {}"])
def test_the_database_refuses_whoever_passes_the_models_by(number: int, statement: str) -> None:
    row = frozen_rows()[number]
    errors = (IntegrityError, InternalError)
    with pytest.raises(errors, match="is frozen"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(row._meta.db_table))
    with pytest.raises(errors, match="is frozen"), transaction.atomic():
        type(row).objects.filter(pk=row.pk).update(id=row.pk)
    row.refresh_from_db()


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_version_is_added_shown_and_compared_from_the_shell() -> None:
    strategy("add", "momentum", "--author", "oli", "--reason", "to begin with")
    added = strategy("add", "momentum", "--set", "rsi_min=40", "threshold_pct=1.5", "--author", "oli", "--reason", "x")
    assert added.splitlines()[0] == "momentum v2 by oli: x"
    assert "threshold_pct" in added
    assert "2.0 -> 1.5" in added
    shown = strategy("show", "momentum", "1")
    assert "momentum v1 by oli" in shown
    assert "1 to 120 minutes" in shown
    assert strategy("diff", "momentum", "1", "2").split() == [
        "threshold_pct", "2.0", "->", "1.5", "rsi_min", "50.0", "->", "40.0",
    ]  # fmt: skip
    assert "v2" in strategy("list")
    assert "the same parameters" in strategy("diff", "momentum", "2", "2")


def test_every_answer_is_there_as_json_too() -> None:
    added = json.loads(strategy("add", "momentum", "--set", "rsi_min=40", "--reason", "x", "--json"))
    assert (added["version"], added["parameters"]["rsi_min"], added["reason"]) == (1, 40.0, "x")
    assert added["engine_hash"] == settings.ENGINE_HASH
    assert json.loads(strategy("show", "momentum", "--json")) == added
    assert json.loads(strategy("list", "--json"))[0]["newest"] == 1
    assert json.loads(strategy("diff", "momentum", "1", "1", "--json"))["changes"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "momentum", "--set", "rsi_min=400", "--reason", "x"), "rsi_min=400 is not from 0 to 100"),
        (("add", "momentum", "--set", "rsi_min", "--reason", "x"), "is not of the form name=value"),
        (("add", "momentum", "--set", "rsi_min=1", "--set", "rsi_min=2", "--reason", "x"), "given twice"),
        (("add", "astrology", "--reason", "x"), "there is no strategy astrology"),
        (("show", "momentum"), "there is no momentum"),
        (("show", "momentum", "9"), "there is no momentum v9"),
        (("diff", "momentum", "1", "2"), "there is no momentum v1"),
    ],
)
def test_the_command_refuses_with_one_line_and_a_status_of_its_own(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError) as refusal:
        strategy(*arguments)
    assert refusal.value.returncode == 2
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_session_follows_a_version_from_the_next_minute_on() -> None:
    world = open_world()
    factories.SessionStrategyFactory.create(session=world.session, version=world.version)
    factories.StrategyVersionFactory.create(
        strategy=world.version.strategy, version=77, engine_hash=world.version.engine_hash
    )
    said = strategy("use", "momentum", "77", "--author", "oli", "--reason", "better")
    row = ParameterSchedule.objects.get()
    assert (row.base, row.version.version, row.set_by, row.reason) == (world.version, 77, "oli", "better")
    assert said.startswith("momentum v77 judges from ")


def test_without_a_session_nothing_can_follow() -> None:
    factories.StrategyVersionFactory.create(version=3)
    with pytest.raises(CommandError, match="no running session trades momentum"):
        strategy("use", "momentum", "3", "--reason", "x")
