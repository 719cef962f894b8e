"""A worker goes on whose acknowledgement is lost, and looks often for a broker that is away."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import OperationalError
from kombu.transport import virtual
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

from cdb_project import celery
from cdb_project.broker import ForgettingQoS


class Unheard(ForgettingQoS):
    """Redis does not answer when it is told that a message is done, or to be given out again."""

    def _remove_from_indices(self, *_: Any, **__: Any) -> Any:
        raise RedisConnectionError("connection reset by peer")

    def restore_by_tag(self, *_: Any, **__: Any) -> None:
        raise RedisConnectionError("connection reset by peer")


def full() -> Unheard:
    """One message is at work, and no more may be."""
    counting = Unheard(channel=None, prefetch_count=1)
    virtual.QoS.append(counting, object(), "tag")
    counting.restore_at_shutdown = False
    assert not counting.can_consume()
    return counting


def test_a_lost_acknowledgement_is_told_and_makes_room_for_the_next_message() -> None:
    counting = full()
    with pytest.raises(RedisConnectionError):
        counting.ack("tag")
    assert counting.can_consume()


@pytest.mark.parametrize("requeue", [False, True])
def test_so_does_a_lost_rejection(requeue: bool) -> None:
    counting = full()
    with pytest.raises(RedisConnectionError):
        counting.reject("tag", requeue=requeue)
    assert counting.can_consume()


def test_a_broker_that_is_away_is_looked_for_every_second() -> None:
    pauses: list[float] = []
    with celery.app.connection_for_read("redis://127.0.0.1:1/0") as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda _, pause: pauses.append(pause), 4)
    assert pauses == [1] * 4


def test_every_channel_of_ours_counts_like_this() -> None:
    assert Channel.QoS is ForgettingQoS
