"""A worker goes on whose acknowledgement is lost, or to which a command to all workers does not come."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final

import pytest
import redis
from kombu.exceptions import OperationalError
from kombu.transport import virtual
from redis.exceptions import ConnectionError as RedisConnectionError

from cdb_project import celery
from cdb_project.broker import ForgettingQoS, SoundChannel
from tests.faults.processes import wait_until

EXCHANGE: Final = "all-workers"


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


@pytest.fixture
def channel(servers: dict[str, str], redis_client: redis.Redis) -> Iterator[Any]:
    """A channel that listens for commands to all workers, which has read that its subscription is accepted."""
    with celery.app.connection_for_read(servers["REDIS_URL"]) as connection:
        assert isinstance(connection.default_channel, SoundChannel)
        found: Any = connection.default_channel
        found.exchange_declare(EXCHANGE, type="fanout")
        found.queue_declare("listening")
        found.queue_bind("listening", EXCHANGE, routing_key="")
        found.basic_consume("listening", no_ack=True, callback=print, consumer_tag="one")
        found.connection.cycle.on_poll_start()
        wait_until("the subscription is accepted", lambda: bool(redis_client.pubsub_numpat()), seconds=10)
        wait_until("it is read", lambda: not found._receive() and found.subclient.subscribed, seconds=10)
        yield found


def read(channel: Any) -> object:
    """What the event loop does when it is told that there is something. One that waits without end is cut off."""
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(channel._receive)
        wait([reading], timeout=30)
        if not reading.done():
            channel.subclient.connection._sock.shutdown(socket.SHUT_RDWR)
            pytest.fail("it waits without end")
        return reading.result()


def test_a_worker_that_is_told_of_a_message_where_none_is_goes_on(channel: Any) -> None:
    assert read(channel) is False


def test_half_a_message_on_a_silent_connection_is_an_error_after_a_moment(channel: Any) -> None:
    ours, theirs = socket.socketpair()
    connection = channel.subclient.connection
    kept, connection._sock = connection._sock, ours
    connection._parser.on_connect(connection)
    theirs.sendall(b">4\r\n$8\r\npmess")
    with pytest.raises(channel.connection_errors):
        read(channel)
    for end in (kept, theirs):
        end.close()


def test_a_broker_that_is_away_is_looked_for_every_second() -> None:
    pauses: list[float] = []
    with celery.app.connection_for_read("redis://127.0.0.1:1/0") as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda _, pause: pauses.append(pause), 4)
    assert pauses == [1] * 4


def test_every_channel_of_ours_is_of_this_kind() -> None:
    transport: Any = celery.app.connection_for_write().transport
    assert transport.Channel is SoundChannel
    assert SoundChannel.QoS is ForgettingQoS
