"""The history of the connections' states: copied once, bounded, without a hole."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from apps.bus import streams
from apps.market.models import FeedEpoch, FeedTransition
from apps.market.services import transitions
from apps.market.services.transitions import copy_transitions, prune_transitions
from apps.staff import times
from tests import factories
from tests.market.ledger import NOW_MS

pytestmark = pytest.mark.django_db

REPORT: dict[str, Any] = {
    "token": 7, "connection": "feed-1", "at_ms": NOW_MS, "from": "STREAMING", "to": "CLOSED",
    "category": "closed_by_exchange", "reason": "24 hours", "closed_by": "exchange", "code": 1000, "age_ms": 5,
    "last_frame_age_ms": 6, "last_pong_age_ms": None, "bytes_in": 7, "subscriptions": 30,
}  # fmt: skip


@pytest.fixture
def epoch() -> FeedEpoch:
    return factories.FeedEpochFactory.create()


def report(client: redis.Redis, epoch: FeedEpoch, payload: bytes | None = None, **changes: Any) -> None:
    client.xadd(
        streams.transitions_key(epoch.pk), {"b": payload if payload is not None else json.dumps(REPORT | changes)}
    )


def test_a_transition_is_stored_with_all_that_was_reported(epoch: FeedEpoch, redis_client: redis.Redis) -> None:
    report(redis_client, epoch)
    assert copy_transitions(epoch=epoch.pk, client=redis_client) == 1
    row = FeedTransition.objects.get()
    assert (row.token, row.connection, row.from_state, row.to_state) == (7, "feed-1", "STREAMING", "CLOSED")
    assert (row.category, row.reason, row.closed_by, row.code) == ("closed_by_exchange", "24 hours", "exchange", 1000)
    assert (row.age_ms, row.last_frame_age_ms, row.last_pong_age_ms, row.bytes_in, row.subscriptions) == (
        5, 6, None, 7, 30,
    )  # fmt: skip
    assert row.at == times.moment(NOW_MS)


def test_each_is_copied_once_and_what_comes_later_follows(epoch: FeedEpoch, redis_client: redis.Redis) -> None:
    report(redis_client, epoch)
    report(redis_client, epoch, **{"from": None})
    assert copy_transitions(epoch=epoch.pk, client=redis_client) == 2
    assert copy_transitions(epoch=epoch.pk, client=redis_client) == 0
    report(redis_client, epoch, to="CONNECTING")
    assert copy_transitions(epoch=epoch.pk, client=redis_client) == 1
    assert FeedTransition.objects.order_by("-pk").values_list("to_state", flat=True)[0] == "CONNECTING"


@pytest.mark.parametrize("payload", [b"{", b"", b'{"connection": 1}', b"\xff"])
def test_an_unreadable_report_is_kept_as_such_and_holds_nothing_up(
    epoch: FeedEpoch, redis_client: redis.Redis, payload: bytes
) -> None:
    report(redis_client, epoch, payload)
    report(redis_client, epoch)
    assert copy_transitions(epoch=epoch.pk, client=redis_client) == 2
    assert FeedTransition.objects.filter(category=transitions.UNREADABLE).count() == 1


def test_the_oldest_are_dropped_per_epoch(epoch: FeedEpoch, redis_client: redis.Redis) -> None:
    other = factories.FeedEpochFactory.create()
    for each in (epoch, other):
        for number in range(4):
            report(redis_client, each, code=number)
        copy_transitions(epoch=each.pk, client=redis_client)
    assert prune_transitions(epoch=epoch.pk, keep=3) == 1
    assert prune_transitions(epoch=epoch.pk, keep=3) == 0
    assert list(FeedTransition.objects.filter(epoch=epoch).order_by("pk").values_list("code", flat=True)) == [1, 2, 3]
    assert FeedTransition.objects.filter(epoch=other).count() == 4
