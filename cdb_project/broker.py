"""The broker's client, so that an acknowledgement that is lost on its way does not stop a worker for good.

A worker takes a message only while it has fewer unacknowledged ones than its prefetch count. The client forgets a
message after Redis has confirmed its acknowledgement; if that connection breaks, it never does, and with a prefetch
count of one the worker is deaf from then on, while all its other connections are sound. Here it forgets the message all
the same. Redis still has it and gives it out again after the visibility timeout: tasks may run twice.

A broker that was away is looked for every second. The client would wait two seconds longer after each attempt, up to
half a minute, and orders with it.
"""

from __future__ import annotations

from typing import Any, Final

from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import virtual
from kombu.transport.redis import Channel, QoS
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


class EagerConnection(Connection):
    """Waits as long before the tenth attempt as before the first."""

    def _ensure_connection(self, errback: Any = None, max_retries: Any = None, *pauses: Any, **others: Any) -> Any:
        parent: Any = super()
        return parent._ensure_connection(errback, max_retries, *(pauses or SAME_PAUSE), **others)


class EagerAMQP(AMQP):
    """What the application makes its connections of."""

    Connection = EagerConnection
    BrokerConnection = EagerConnection


def install() -> None:
    """Have every channel to Redis count like this. `Channel.QoS` is the seam that the client leaves for it."""
    channel: Any = Channel
    channel.QoS = ForgettingQoS
