"""Every timeout of the system, and the order they must keep.

Inner layers notice earlier than outer layers act, and no layer restarts because the layer behind it is quiet:
browser < backend < exchange. The relations are asserted at import, so a number that breaks them stops every process.
"""

from __future__ import annotations

from typing import Final

# --- given by the exchange --------------------------------------------------------------------------------------------
EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS: Final = 30
EXCHANGE_IDLE_CLOSE_SECONDS: Final = 60
EXCHANGE_LIFETIME_SECONDS: Final = 24 * 3600
EXCHANGE_SUBSCRIPTIONS_MAX: Final = 30

# --- ingest -> exchange -----------------------------------------------------------------------------------------------
FEED_CONNECT_SECONDS: Final = 10
FEED_ACK_RESEND_SECONDS: Final = 5
FEED_ACK_RECONNECT_SECONDS: Final = 10
FEED_PING_SECONDS: Final = 15
FEED_PONG_WARN_SECONDS: Final = 20
FEED_PONG_RECONNECT_SECONDS: Final = 35
FEED_SILENCE_WARN_SECONDS: Final = 20
FEED_SILENCE_RECONNECT_SECONDS: Final = 40
FEED_RECEIVE_TICK_SECONDS: Final = 1
FEED_PARTIAL_FRAME_SECONDS: Final = 5
FEED_BACKOFF_FIRST_SECONDS: Final = 0.5
FEED_BACKOFF_MAX_SECONDS: Final = 30
FEED_BACKOFF_RESET_AFTER_SECONDS: Final = 60
FEED_REFUSED_RETRY_FIRST_SECONDS: Final = 60
FEED_REFUSED_RETRY_MAX_SECONDS: Final = 600

# --- trading ----------------------------------------------------------------------------------------------------------
FEED_AGE_MAX_MS: Final = 2_000
SIGNAL_AGE_MAX_MS: Final = 2_000
INTENT_TTL_MS: Final = 2_000
DATA_STALE_SECONDS: Final = 60  # shown as old, in every place that shows it

# --- REST -------------------------------------------------------------------------------------------------------------
REST_CONNECT_SECONDS: Final = 2
REST_READ_SECONDS: Final = 5

# --- Redis ------------------------------------------------------------------------------------------------------------
REDIS_CONNECT_SECONDS: Final = 2
REDIS_SOCKET_SECONDS: Final = 5
REDIS_BLOCK_MAX_MS: Final = 2_000
BROKER_SOCKET_SECONDS: Final = 10
BROKER_CONNECT_SECONDS: Final = 5
BROKER_HEALTH_CHECK_SECONDS: Final = 10

# --- Celery -----------------------------------------------------------------------------------------------------------
CELERY_SOFT_LIMIT_SECONDS: Final = 15
CELERY_HARD_LIMIT_SECONDS: Final = 20
CELERY_SOFT_SHUTDOWN_SECONDS: Final = 25
SUPERVISOR_KILL_SECONDS: Final = 40
CELERY_VISIBILITY_SECONDS: Final = 120
CELERY_RESTORE_INTERVAL_SECONDS: Final = 5

# --- PostgreSQL -------------------------------------------------------------------------------------------------------
POSTGRES_CONNECT_SECONDS: Final = 3
POSTGRES_LOCK_MS: Final = 2_000
POSTGRES_STATEMENT_TASK_MS: Final = 5_000
POSTGRES_STATEMENT_WEB_MS: Final = 15_000
POSTGRES_IDLE_IN_TRANSACTION_MS: Final = 10_000
POSTGRES_TCP_USER_TIMEOUT_MS: Final = 10_000

# --- backend -> browser -----------------------------------------------------------------------------------------------
LIVE_HEARTBEAT_SECONDS: Final = 5
LIVE_WS_PING_SECONDS: Final = 20
LIVE_CLIENT_ACK_SECONDS: Final = 15
LIVE_SESSION_CHECK_SECONDS: Final = 60
LIVE_SOCKET_LIFETIME_SECONDS: Final = 12 * 3600
BROWSER_DELAYED_SECONDS: Final = 10
BROWSER_RECONNECT_SECONDS: Final = 15

_RELATIONS: Final = (
    ("two heartbeats fit before the browser says delayed", 2 * LIVE_HEARTBEAT_SECONDS <= BROWSER_DELAYED_SECONDS),
    ("the browser says delayed before it reconnects", BROWSER_DELAYED_SECONDS < BROWSER_RECONNECT_SECONDS),
    ("the browser acts before the backend", BROWSER_RECONNECT_SECONDS < FEED_PONG_WARN_SECONDS),
    ("the backend warns before it reconnects", FEED_PONG_WARN_SECONDS < FEED_PONG_RECONNECT_SECONDS),
    ("a late pong leaves one full spare ping", FEED_PONG_RECONNECT_SECONDS > 2 * FEED_PING_SECONDS),
    ("pong age acts before frame silence", FEED_PONG_RECONNECT_SECONDS < FEED_SILENCE_RECONNECT_SECONDS),
    ("the backend acts before the exchange", FEED_SILENCE_RECONNECT_SECONDS < EXCHANGE_IDLE_CLOSE_SECONDS),
    ("three pings fit into the idle window", 3 * FEED_PING_SECONDS < EXCHANGE_IDLE_CLOSE_SECONDS),
    (
        "an ack is missed before the exchange closes",
        FEED_ACK_RECONNECT_SECONDS < EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS,
    ),
    ("an ack is asked for again before it is missed", FEED_ACK_RESEND_SECONDS < FEED_ACK_RECONNECT_SECONDS),
    ("a half frame is noticed before silence is", FEED_PARTIAL_FRAME_SECONDS < FEED_SILENCE_WARN_SECONDS),
    ("trading stops long before the feed is called silent", FEED_AGE_MAX_MS < FEED_SILENCE_WARN_SECONDS * 1000),
    ("a blocking read ends before its socket times out", REDIS_BLOCK_MAX_MS / 1000 + 2 <= REDIS_SOCKET_SECONDS),
    ("a REST call ends before its task does", REST_CONNECT_SECONDS + REST_READ_SECONDS < CELERY_SOFT_LIMIT_SECONDS),
    ("a task is asked to stop before it is killed", CELERY_SOFT_LIMIT_SECONDS < CELERY_HARD_LIMIT_SECONDS),
    ("a killed task ends before the shutdown does", CELERY_HARD_LIMIT_SECONDS < CELERY_SOFT_SHUTDOWN_SECONDS),
    ("the shutdown ends before the supervisor kills", CELERY_SOFT_SHUTDOWN_SECONDS < SUPERVISOR_KILL_SECONDS),
    ("no task runs twice while it is alive", SUPERVISOR_KILL_SECONDS < CELERY_VISIBILITY_SECONDS),
    ("a lock wait ends before its statement", POSTGRES_LOCK_MS < POSTGRES_STATEMENT_TASK_MS),
    ("a statement ends before its task", POSTGRES_STATEMENT_TASK_MS < CELERY_HARD_LIMIT_SECONDS * 1000),
)


def broken_relations() -> tuple[str, ...]:
    """The relations that do not hold, in words; empty in a sound system."""
    return tuple(words for words, holds in _RELATIONS if not holds)


assert not broken_relations(), f"timeouts out of order: {broken_relations()}"
