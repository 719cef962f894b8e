"""The broker's client, so that an acknowledgement that is lost on its way does not stop a worker for good.

A worker takes a message only while it has fewer unacknowledged ones than its prefetch count. The client forgets a
message after Redis has confirmed its acknowledgement; if that connection breaks, it never does, and with a prefetch
count of one the worker is deaf from then on, while all its other connections are sound. Here it forgets the message all
the same. Redis still has it and gives it out again after the visibility timeout: tasks may run twice.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import virtual
from kombu.transport.redis import Channel, QoS
from redis.exceptions import RedisError


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


def install() -> None:
    """Have every channel to Redis count like this. `Channel.QoS` is the seam that the client leaves for it."""
    channel: Any = Channel
    channel.QoS = ForgettingQoS
