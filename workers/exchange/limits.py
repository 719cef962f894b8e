"""Every number the local exchange obeys, in one place, so that a test can shrink it."""

from __future__ import annotations

from dataclasses import dataclass

from apps.engine import timeouts


@dataclass(frozen=True, slots=True)
class Limits:
    """Connection rules of the real exchange first, then our own bounds."""

    subscriptions_max: int = timeouts.EXCHANGE_SUBSCRIPTIONS_MAX
    no_subscription_seconds: float = timeouts.EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS
    idle_seconds: float = timeouts.EXCHANGE_IDLE_CLOSE_SECONDS
    lifetime_seconds: float = timeouts.EXCHANGE_LIFETIME_SECONDS
    control_messages_per_second_max: int = 100

    tick_seconds: float = 0.1
    start_grace_seconds: float = 2.0  # from the first accepted subscription to the start of event time
    trades_per_frame_max: int = 1_000
    trades_per_step_max: int = 5_000  # a tick with more is sent in steps, so that sockets and REST get their turn
    send_buffer_bytes_max: int = 32 * 1024 * 1024  # 25 s of the largest recording at speed 600
    drain_seconds: float = 0.25  # between the steps of a large tick, for readers that are behind
    control_message_bytes_max: int = 64 * 1024
    connections_max: int = 256
    close_seconds: float = 0.5
