"""The live page says why nothing traded, in the words of `manage.py funnel --why`."""

from __future__ import annotations

import html
import io
import re
from contextlib import redirect_stdout

import pytest
import redis
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from apps.market.models import ShardCursor
from apps.ops.selectors import standstill
from tests.admin.rows import make_road
from tests.factories import IngestRunFactory
from tests.worlds import open_world

pytestmark = pytest.mark.django_db


def shown(client: Client) -> list[str]:
    page = client.get(reverse("live:board")).content.decode()
    return [html.unescape(text) for text in re.findall(r"<p class=\"cdb-caption\" data-why>(.*?)</p>", page)]


def commanded() -> str:
    output = io.StringIO()
    with redirect_stdout(output):
        call_command("funnel", "--why")
    return output.getvalue().splitlines()[0]


@pytest.mark.parametrize("processed", [0, 12])
def test_the_page_says_what_the_command_says(admin_client: Client, redis_client: redis.Redis, processed: int) -> None:
    world = open_world()
    IngestRunFactory.create(epoch=world.epoch, received=12, decoded=12, published=12)
    ShardCursor.objects.update(processed=processed)
    assert shown(admin_client) == [commanded()]
    assert commanded().startswith("Stands still at " + ("evaluated" if processed else "processed"))


def test_it_is_not_looked_for_at_every_look(admin_client: Client, redis_client: redis.Redis) -> None:
    world = open_world()
    before = shown(admin_client)
    IngestRunFactory.create(epoch=world.epoch, received=12, decoded=0, published=0)
    assert shown(admin_client) == before != [commanded()]
    standstill._told[world.session.pk] = (0, before[0])
    assert shown(admin_client) == [commanded()]


def test_nothing_is_said_where_something_traded_or_no_session_runs(
    admin_client: Client, redis_client: redis.Redis
) -> None:
    assert shown(admin_client) == []
    make_road()
    assert shown(admin_client) == []
