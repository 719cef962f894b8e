"""Every number the local exchange obeys, in one place, so that a test can shrink it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from apps.engine import timeouts

TICK_SECONDS_MIN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """Rules of the real exchange first, then our own bounds. All seconds are of this machine's clock."""

    subscriptions_max: int = timeouts.EXCHANGE_SUBSCRIPTIONS_MAX
    no_subscription_seconds: float = timeouts.EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS
    idle_seconds: float = timeouts.EXCHANGE_IDLE_CLOSE_SECONDS
    lifetime_seconds: float = timeouts.EXCHANGE_LIFETIME_SECONDS
    control_messages_per_second_max: int = 100
    control_window_seconds: float = 1.0
    rest_weight_max: int | None = 300  # per window, over all clients; None lifts the limit
    rest_window_seconds: float = 10.0
    listen_key_seconds: float = 3_600.0
    listen_keys_max: int = 60  # per account
    listen_key_sockets_max: int = 5

    tick_seconds: float = 0.1
    quote_repeat_ticks: int = 1  # an unchanged quote is repeated every so many ticks
    start_grace_seconds: float = 2.0  # from the first accepted subscription to the start of event time
    trades_per_frame_max: int = 1_000
    trades_per_step_max: int = 5_000  # a tick with more is sent in steps, so that sockets and REST get their turn
    send_buffer_bytes_max: int = 32 * 1024 * 1024  # 25 s of the largest recording at speed 600
    drain_seconds: float = 0.25  # between the steps of a large tick, for readers that are behind
    control_message_bytes_max: int = 64 * 1024
    connections_max: int = 1_024
    close_seconds: float = 0.5

    def at_rate(self, rate: float) -> Limits:
        """The same rules on a clock that runs `rate` times as fast; bounds of our own stay as they are."""
        return replace(
            self,
            no_subscription_seconds=self.no_subscription_seconds / rate,
            idle_seconds=self.idle_seconds / rate,
            lifetime_seconds=self.lifetime_seconds / rate,
            control_window_seconds=self.control_window_seconds / rate,
            rest_window_seconds=self.rest_window_seconds / rate,
            listen_key_seconds=self.listen_key_seconds / rate,
            start_grace_seconds=self.start_grace_seconds / rate,
            tick_seconds=max(self.tick_seconds / rate, min(self.tick_seconds, TICK_SECONDS_MIN)),
        )
