"""`manage.py recover`: one command for each loss, with its steps, and its exit code when one fails."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest
import redis
from django.core.management import CommandError, call_command

from apps.bus import streams
from apps.execution.models import DatabaseIncarnation, TradingStart
from apps.market.models import IngestLease
from apps.portfolio.models import Account
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    world = open_world()
    IngestLease.objects.create(epoch=world.epoch, token=7)
    return world


def recover(*arguments: str) -> str:
    out = io.StringIO()
    call_command("recover", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("loss", ["redis", "rollback", "database"])
def test_each_loss_has_one_command_that_says_what_it_did(world: World, redis_client: redis.Redis, loss: str) -> None:
    redis_client.set(streams.fence_key(world.epoch.pk), 5)
    text = recover(loss)
    assert "the fence was 5: put back to 7" in text
    assert text.splitlines()[-1] == "trading goes on"
    assert TradingStart.objects.get().cause == loss
    assert redis_client.get(streams.fence_key(world.epoch.pk)) == b"7"


def test_a_restored_database_begins_another_life(world: World) -> None:
    recover("redis")
    assert DatabaseIncarnation.objects.count() == 1
    assert "incarnation " in recover("database")
    assert DatabaseIncarnation.objects.count() == 2


def test_for_scripts_it_is_json(world: World) -> None:
    facts = json.loads(recover("database", "--json"))
    assert (facts["ok"], facts["reason"], facts["steps"][-1]["name"]) == (True, "", "resume")


def test_a_step_that_fails_is_exit_code_1_and_leaves_halted(world: World) -> None:
    Account.objects.filter(pk=world.account.pk).update(cash=Decimal(1))
    with pytest.raises(CommandError, match="trading stays HALTED: invariants: I6") as error:
        recover("redis")
    assert error.value.returncode == 1
    assert world.state.trading_state == "HALTED"
