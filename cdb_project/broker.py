"""The broker's client, so that nothing that is lost on its way stops a worker for good.

A worker takes a message only while it has fewer unacknowledged ones than its prefetch count. The client forgets a
message after Redis has confirmed its acknowledgement; if that connection breaks, it never does, and with a prefetch
count of one the worker is deaf from then on, while all its other connections are sound. Here it forgets the message all
the same. Redis still has it and gives it out again after the visibility timeout: tasks may run twice.

Commands to all workers come over a connection of their own, which the event loop reads when it is told that there is
something. The client waits for that without end; if there is nothing, or half a message on a connection that was cut
without a word, the whole worker waits with it. Here it waits for a moment, then looks again or connects anew.

A broker that was away is looked for every second. The client would wait two seconds longer after each attempt, up to
half a minute, and orders with it.
"""

from __future__ import annotations

from typing import Any, Final

import redis
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import virtual
from kombu.transport.redis import Channel, QoS, Transport
from redis.client import PubSub
from redis.exceptions import RedisError

from apps.engine import timeouts

SAME_PAUSE: Final = (timeouts.BROKER_AGAIN_SECONDS, 0, timeouts.BROKER_AGAIN_SECONDS)  # first, more each time, most


class ForgettingQoS(QoS):
    """Counts only messages that are at work here."""

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except (RedisError, OSError):
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        except (RedisError, OSError):
            virtual.QoS.ack(self, delivery_tag)
            raise


class BoundedPubSub(PubSub):
    """Waits a moment, not for good, for a message that is said to be there."""

    def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        """The next message, or None if there is none. Raises redis.TimeoutError if its end does not come."""
        usual: Any = super()
        return usual.parse_response(block=False, timeout=timeouts.BROKER_MESSAGE_SECONDS if block else timeout)


class BoundedClient(redis.Redis):
    def pubsub(self, **kwargs: Any) -> BoundedPubSub:
        return BoundedPubSub(self.connection_pool, **kwargs)


class SoundChannel(Channel):
    """Loses its place neither by an acknowledgement nor by a command that does not come."""

    QoS = ForgettingQoS

    def _get_client(self) -> Any:
        parent: Any = super()
        usual = parent._get_client()
        if usual is not redis.Redis:
            raise TypeError(f"the broker's client is {usual}: whoever gives it another has to bound its waiting too")
        return BoundedClient


class EagerConnection(Connection):
    def _ensure_connection(self, errback: Any = None, max_retries: Any = None, *pauses: Any, **others: Any) -> Any:
        parent: Any = super()
        return parent._ensure_connection(errback, max_retries, *(pauses or SAME_PAUSE), **others)


class EagerAMQP(AMQP):
    """What the application makes its connections of."""

    Connection = EagerConnection
    BrokerConnection = EagerConnection


def install() -> None:
    """Have every channel to Redis be of this kind. `Transport.Channel` is the seam that the client leaves for it."""
    transport: Any = Transport
    transport.Channel = SoundChannel
