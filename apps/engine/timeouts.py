"""Every timeout of the system, and the order they must keep.

Inner layers notice earlier than outer layers act, and no layer restarts because the layer behind it is quiet:
browser < backend < exchange. The relations are asserted at import, so a number that breaks them stops every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# --- given by the exchange --------------------------------------------------------------------------------------------
EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS: Final = 30
EXCHANGE_IDLE_CLOSE_SECONDS: Final = 60
EXCHANGE_LIFETIME_SECONDS: Final = 24 * 3600
EXCHANGE_SUBSCRIPTIONS_MAX: Final = 30

# --- ingest -> exchange -----------------------------------------------------------------------------------------------
FEED_RESOLVE_SECONDS: Final = 3
FEED_TCP_CONNECT_SECONDS: Final = 5
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
FEED_ROTATION_SECONDS: Final = 23 * 3600 + 30 * 60
FEED_ROTATION_JITTER_SECONDS: Final = 10 * 60  # more or less
FEED_ROTATION_GIVE_UP_SECONDS: Final = 60
FEED_ROTATION_RETRY_SECONDS: Final = 5 * 60
FEED_SYMBOL_SILENCE_SECONDS: Final = 10  # at least; a symbol's own habit may ask for more
FEED_SYMBOL_SILENCE_GAPS: Final = 8  # so many times the gap that 99 of 100 of its gaps do not exceed
FEED_SYMBOL_RESUBSCRIBE_SECONDS: Final = 60

# --- trading ----------------------------------------------------------------------------------------------------------
FEED_AGE_MAX_MS: Final = 2_000
SIGNAL_AGE_MAX_MS: Final = 2_000
INTENT_TTL_MS: Final = 2_000
ORDER_ASK_FIRST_SECONDS: Final = 1  # after a question without a clear answer; twice as long each time
ORDER_ASK_MAX_SECONDS: Final = 10
ORDER_NEVER_RECEIVED_SECONDS: Final = 5  # a venue's "no such order" is believed when it is said again so much later
ORDER_UNKNOWN_ALERT_SECONDS: Final = 30
ORDER_SETTLED_SECONDS: Final = 60  # at the latest, once the venue answers again
ORDER_FLIGHT_MS: Final = 1_000  # event time; until then an order is on its way to its fill
ORDER_REST_MS: Final = 60_000  # event time; what rests longer is canceled, an exit then raised again
HEARTBEAT_SECONDS: Final = 5  # how often a worker tells that it is there
HEARTBEAT_AGE_MAX_MS: Final = 15_000  # three missed
SCHEMA_LOOK_SECONDS: Final = 5  # how often a process looks whether somebody has migrated away from its code
DATA_STALE_SECONDS: Final = 60  # shown as old, in every place that shows it

# --- reconciliation ---------------------------------------------------------------------------------------------------
RECONCILE_ORDERS_SECONDS: Final = 10
RECONCILE_FULL_SECONDS: Final = 60
RECONCILE_IN_FLIGHT_MS: Final = 5_000  # what differs for less than this is under way, and no difference
RECONCILE_HALT_SECONDS: Final = 60  # a difference that is open for so long halts

# --- the lease of the ingest ------------------------------------------------------------------------------------------
LEASE_TTL_SECONDS: Final = 6
LEASE_RENEW_SECONDS: Final = 2
LEASE_SELF_STOP_SECONDS: Final = 4
LEASE_QUICK_TAKEOVER_SECONDS: Final = 3
LEASE_STATEMENT_MS: Final = 1_000
LEASE_CONNECT_SECONDS: Final = 2
LEASE_LOOK_SECONDS: Final = 0.25
LEASE_RETRY_SECONDS: Final = 0.25
LEASE_TAKEOVER_MAX_SECONDS: Final = 10  # from a kill to the first entry of the successor

# --- REST -------------------------------------------------------------------------------------------------------------
REST_CONNECT_SECONDS: Final = 2
REST_READ_SECONDS: Final = 5
REST_TOTAL_SECONDS: Final = 8  # of a body that comes in drops

# --- a venue's signed REST and private stream -------------------------------------------------------------------------
VENUE_CALL_SECONDS: Final = 3  # from connecting to the last byte
VENUE_TURN_SECONDS: Final = 0.5  # for a turn in the budget; what would wait longer is not sent
LISTEN_KEY_LIFETIME_SECONDS: Final = 3_600  # given by the exchange
LISTEN_KEY_EXTEND_SECONDS: Final = 1_800
LISTEN_KEY_LOOK_SECONDS: Final = 60  # one that is over leaves its socket open and silent, so it is asked for

# --- Redis ------------------------------------------------------------------------------------------------------------
REDIS_CONNECT_SECONDS: Final = 2
REDIS_SOCKET_SECONDS: Final = 5
REDIS_GLANCE_SECONDS: Final = 1
REDIS_BLOCK_MAX_MS: Final = 2_000
BROKER_SOCKET_SECONDS: Final = 5
BROKER_CONNECT_SECONDS: Final = 3
BROKER_HEALTH_CHECK_SECONDS: Final = 5
BROKER_AGAIN_SECONDS: Final = 1  # between two attempts to reach a broker that is away

# --- Celery -----------------------------------------------------------------------------------------------------------
CELERY_SOFT_LIMIT_SECONDS: Final = 15
CELERY_HARD_LIMIT_SECONDS: Final = 20
CELERY_SOFT_SHUTDOWN_SECONDS: Final = 25
SUPERVISOR_KILL_SECONDS: Final = 40
CELERY_VISIBILITY_SECONDS: Final = 120
CELERY_RESTORE_INTERVAL_SECONDS: Final = 5
CELERY_RETRY_DELAY_SECONDS: Final = 1
DEAF_LOOK_SECONDS: Final = 5  # how often a worker looks whether it takes the messages that wait for it
DEAF_MARGIN_SECONDS: Final = 10  # beyond its longest task; then it ends itself
DEAF_END_SECONDS: Final = 10  # until it is ended the hard way
BACKTEST_REPORT_SECONDS: Final = 0.5  # how often a simulation tells how far it is, and looks whether it is cancelled
BACKTEST_LOST_SECONDS: Final = 300  # without a sign of life, reading and compiling included
BACKTEST_SOFT_LIMIT_SECONDS: Final = 3_600
BACKTEST_HARD_LIMIT_SECONDS: Final = 3_660

# --- PostgreSQL -------------------------------------------------------------------------------------------------------
POSTGRES_CONNECT_SECONDS: Final = 3
POSTGRES_LOCK_MS: Final = 2_000
POSTGRES_STATEMENT_TASK_MS: Final = 5_000
POSTGRES_STATEMENT_WEB_MS: Final = 15_000
POSTGRES_IDLE_IN_TRANSACTION_MS: Final = 10_000
POSTGRES_CLIENT_CHECK_MS: Final = 1_000  # how long a statement and its locks may outlive the client that is gone
POSTGRES_TCP_USER_TIMEOUT_MS: Final = 10_000

# --- backend -> browser -----------------------------------------------------------------------------------------------
LIVE_HEARTBEAT_SECONDS: Final = 5
LIVE_WS_PING_SECONDS: Final = 20
LIVE_CLIENT_ACK_SECONDS: Final = 15
LIVE_SESSION_CHECK_SECONDS: Final = 60
LIVE_SOCKET_LIFETIME_SECONDS: Final = 12 * 3600
LIVE_PUSH_MS: Final = 250
LIVE_LAYER_RETRY_SECONDS: Final = 5
BROWSER_DELAYED_SECONDS: Final = 10
BROWSER_RECONNECT_SECONDS: Final = 15
BROWSER_BACKOFF_FIRST_MS: Final = 500
BROWSER_BACKOFF_MAX_MS: Final = 15_000

# Evaluated when asked, so that a test can move a number and see which relation breaks.
_RELATIONS: Final[tuple[tuple[str, Callable[[], bool]], ...]] = (
    # browser < backend < exchange
    ("pushes are faster than heartbeats", lambda: LIVE_PUSH_MS < LIVE_HEARTBEAT_SECONDS * 1000),
    (
        "two heartbeats fit before the browser says delayed",
        lambda: 2 * LIVE_HEARTBEAT_SECONDS <= BROWSER_DELAYED_SECONDS,
    ),
    (
        "a lost layer is sought again before pages say delayed",
        lambda: LIVE_LAYER_RETRY_SECONDS < BROWSER_DELAYED_SECONDS,
    ),
    ("the browser says delayed before it reconnects", lambda: BROWSER_DELAYED_SECONDS < BROWSER_RECONNECT_SECONDS),
    ("the browser reconnects before the server gives it up", lambda: BROWSER_RECONNECT_SECONDS < LIVE_WS_PING_SECONDS),
    ("a slow reader gets two heartbeats of time", lambda: LIVE_CLIENT_ACK_SECONDS > 2 * LIVE_HEARTBEAT_SECONDS),
    ("a slow reader goes before its ping times out", lambda: LIVE_CLIENT_ACK_SECONDS < LIVE_WS_PING_SECONDS),
    ("the browser's pauses grow", lambda: BROWSER_BACKOFF_FIRST_MS < BROWSER_BACKOFF_MAX_MS),
    (
        "its longest pause is no longer than its patience",
        lambda: BROWSER_BACKOFF_MAX_MS <= BROWSER_RECONNECT_SECONDS * 1000,
    ),
    ("values count as old after the browser has tried again", lambda: BROWSER_RECONNECT_SECONDS < DATA_STALE_SECONDS),
    ("values count as old when the exchange would close", lambda: DATA_STALE_SECONDS <= EXCHANGE_IDLE_CLOSE_SECONDS),
    (
        "logging out reaches a page long before its socket ends",
        lambda: 10 * LIVE_SESSION_CHECK_SECONDS < LIVE_SOCKET_LIFETIME_SECONDS,
    ),
    ("the browser acts before the backend", lambda: BROWSER_RECONNECT_SECONDS < FEED_PONG_WARN_SECONDS),
    ("the backend warns before it reconnects", lambda: FEED_PONG_WARN_SECONDS < FEED_PONG_RECONNECT_SECONDS),
    ("silence is a warning before it is a reason", lambda: FEED_SILENCE_WARN_SECONDS < FEED_SILENCE_RECONNECT_SECONDS),
    ("a late pong leaves one full spare ping", lambda: FEED_PONG_RECONNECT_SECONDS > 2 * FEED_PING_SECONDS),
    ("pong age acts before frame silence", lambda: FEED_PONG_RECONNECT_SECONDS < FEED_SILENCE_RECONNECT_SECONDS),
    ("the backend acts before the exchange", lambda: FEED_SILENCE_RECONNECT_SECONDS < EXCHANGE_IDLE_CLOSE_SECONDS),
    ("three pings fit into the idle window", lambda: 3 * FEED_PING_SECONDS < EXCHANGE_IDLE_CLOSE_SECONDS),
    # ingest
    (
        "a name and an address leave time for TLS and the upgrade",
        lambda: FEED_RESOLVE_SECONDS + FEED_TCP_CONNECT_SECONDS < FEED_CONNECT_SECONDS,
    ),
    ("a name is told faster than a connection is made", lambda: FEED_RESOLVE_SECONDS < FEED_TCP_CONNECT_SECONDS),
    (
        "connecting fails before the exchange would close",
        lambda: FEED_CONNECT_SECONDS < EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS,
    ),
    (
        "an ack is missed before the exchange closes",
        lambda: FEED_ACK_RECONNECT_SECONDS < EXCHANGE_NO_SUBSCRIPTION_CLOSE_SECONDS,
    ),
    ("an ack is asked for again before it is missed", lambda: FEED_ACK_RESEND_SECONDS < FEED_ACK_RECONNECT_SECONDS),
    ("a half frame is looked at several times", lambda: 3 * FEED_RECEIVE_TICK_SECONDS <= FEED_PARTIAL_FRAME_SECONDS),
    ("a half frame is noticed before silence is", lambda: FEED_PARTIAL_FRAME_SECONDS < FEED_SILENCE_WARN_SECONDS),
    ("pauses between attempts grow", lambda: FEED_BACKOFF_FIRST_SECONDS < FEED_BACKOFF_MAX_SECONDS),
    (
        "only what lasts longer than a pause is stable",
        lambda: FEED_BACKOFF_MAX_SECONDS < FEED_BACKOFF_RESET_AFTER_SECONDS,
    ),
    ("a refusal weighs more than a failure", lambda: FEED_BACKOFF_MAX_SECONDS < FEED_REFUSED_RETRY_FIRST_SECONDS),
    ("pauses after refusals grow", lambda: FEED_REFUSED_RETRY_FIRST_SECONDS < FEED_REFUSED_RETRY_MAX_SECONDS),
    (
        "a refused exchange is asked again before a connection's day ends",
        lambda: FEED_REFUSED_RETRY_MAX_SECONDS < EXCHANGE_LIFETIME_SECONDS,
    ),
    # workers
    (
        "a change of the schema is noticed sooner than a silent worker",
        lambda: SCHEMA_LOOK_SECONDS * 1000 < HEARTBEAT_AGE_MAX_MS,
    ),
    # the lease
    ("a holder stops before its lease ends", lambda: LEASE_SELF_STOP_SECONDS < LEASE_TTL_SECONDS),
    (
        "a renewal may need a new connection and still come in time",
        lambda: LEASE_RENEW_SECONDS + LEASE_CONNECT_SECONDS <= LEASE_SELF_STOP_SECONDS,
    ),
    ("a renewal is missed before anybody takes over", lambda: LEASE_RENEW_SECONDS < LEASE_QUICK_TAKEOVER_SECONDS),
    (
        "a statement of the lease ends before the next renewal",
        lambda: LEASE_STATEMENT_MS < LEASE_RENEW_SECONDS * 1000,
    ),
    (
        "a standby that is quick is quicker than one that waits",
        lambda: LEASE_QUICK_TAKEOVER_SECONDS < LEASE_TTL_SECONDS,
    ),
    ("a standby looks often", lambda: 4 * LEASE_LOOK_SECONDS <= LEASE_QUICK_TAKEOVER_SECONDS - LEASE_RENEW_SECONDS),
    ("a lost connection is sought again before a renewal is due", lambda: LEASE_RETRY_SECONDS < LEASE_RENEW_SECONDS),
    ("a successor has time to connect", lambda: LEASE_TTL_SECONDS + 2 < LEASE_TAKEOVER_MAX_SECONDS),
    (
        "a connection is rotated, also at the second attempt, before its day ends",
        lambda: (
            FEED_ROTATION_SECONDS
            + FEED_ROTATION_JITTER_SECONDS
            + 2 * FEED_ROTATION_GIVE_UP_SECONDS
            + FEED_ROTATION_RETRY_SECONDS
            < EXCHANGE_LIFETIME_SECONDS
        ),
    ),
    (
        "a successor has time to connect and to be answered",
        lambda: FEED_CONNECT_SECONDS + FEED_ACK_RECONNECT_SECONDS < FEED_ROTATION_GIVE_UP_SECONDS,
    ),
    (
        "a rotation that was given up is over before the next",
        lambda: FEED_ROTATION_GIVE_UP_SECONDS < FEED_ROTATION_RETRY_SECONDS,
    ),
    (
        "a symbol is silent before it is subscribed again",
        lambda: FEED_SYMBOL_SILENCE_SECONDS < FEED_SYMBOL_RESUBSCRIBE_SECONDS,
    ),
    (
        "a connection's silence acts before a symbol's does",
        lambda: FEED_SILENCE_RECONNECT_SECONDS < FEED_SYMBOL_RESUBSCRIBE_SECONDS,
    ),
    # reconciliation
    (
        "what is under way has arrived before open orders are compared again",
        lambda: RECONCILE_IN_FLIGHT_MS < RECONCILE_ORDERS_SECONDS * 1000,
    ),
    ("open orders are compared more often than everything", lambda: RECONCILE_ORDERS_SECONDS < RECONCILE_FULL_SECONDS),
    (
        "everything is compared again before a difference halts",
        lambda: RECONCILE_FULL_SECONDS <= RECONCILE_HALT_SECONDS,
    ),
    # trading
    ("trading stops long before the feed is called silent", lambda: FEED_AGE_MAX_MS < FEED_SILENCE_WARN_SECONDS * 1000),
    ("a signal is not older than the feed may be", lambda: SIGNAL_AGE_MAX_MS <= FEED_AGE_MAX_MS),
    ("pauses between questions grow", lambda: ORDER_ASK_FIRST_SECONDS < ORDER_ASK_MAX_SECONDS),
    (
        "an order is settled soon after its venue answers: a pause, no trace, no trace again, and as much to spare",
        lambda: 2 * (ORDER_ASK_MAX_SECONDS + ORDER_NEVER_RECEIVED_SECONDS) <= ORDER_SETTLED_SECONDS,
    ),
    (
        "an order that is merely late raises no alert",
        lambda: ORDER_NEVER_RECEIVED_SECONDS + ORDER_ASK_MAX_SECONDS < ORDER_UNKNOWN_ALERT_SECONDS,
    ),
    (
        "somebody hears of an unknown order before it must be settled",
        lambda: ORDER_UNKNOWN_ALERT_SECONDS < ORDER_SETTLED_SECONDS,
    ),
    ("an order flies before it rests", lambda: ORDER_FLIGHT_MS < ORDER_REST_MS),
    (
        "three heartbeats are missed before a worker counts as silent",
        lambda: 3_000 * HEARTBEAT_SECONDS <= HEARTBEAT_AGE_MAX_MS,
    ),
    ("an intent does not outlive its signal's patience", lambda: INTENT_TTL_MS <= SIGNAL_AGE_MAX_MS),
    (
        "a REST call ends before its task does",
        lambda: REST_CONNECT_SECONDS + REST_READ_SECONDS < CELERY_SOFT_LIMIT_SECONDS,
    ),
    ("a slow answer gets more than one read", lambda: REST_READ_SECONDS < REST_TOTAL_SECONDS),
    (
        "an answer in drops is left before its task ends",
        lambda: REST_TOTAL_SECONDS + REST_READ_SECONDS < CELERY_SOFT_LIMIT_SECONDS,
    ),
    (
        "the clock, the order, what became of it and its fills: all four calls fit into a task",
        lambda: 4 * (VENUE_CALL_SECONDS + VENUE_TURN_SECONDS) < CELERY_SOFT_LIMIT_SECONDS,
    ),
    (
        "a listen key is extended, also at the second attempt, before it is over",
        lambda: 2 * LISTEN_KEY_EXTEND_SECONDS <= LISTEN_KEY_LIFETIME_SECONDS,
    ),
    (
        "a listen key that is over is noticed long before it would be extended",
        lambda: 10 * LISTEN_KEY_LOOK_SECONDS <= LISTEN_KEY_EXTEND_SECONDS,
    ),
    # Redis and Celery
    ("a blocking read ends before its socket times out", lambda: REDIS_BLOCK_MAX_MS / 1000 + 2 <= REDIS_SOCKET_SECONDS),
    ("connecting to Redis ends before an answer is missed", lambda: REDIS_CONNECT_SECONDS < REDIS_SOCKET_SECONDS),
    ("a glance is shorter than a look", lambda: REDIS_GLANCE_SECONDS < REDIS_CONNECT_SECONDS),
    (
        "connecting to the broker ends before an answer is missed",
        lambda: BROKER_CONNECT_SECONDS < BROKER_SOCKET_SECONDS,
    ),
    (
        "a mute broker is noticed before the task that rings it ends",
        lambda: BROKER_SOCKET_SECONDS < CELERY_SOFT_LIMIT_SECONDS,
    ),
    (
        "a half-open broker connection is left before its tasks come back",
        lambda: (
            BROKER_HEALTH_CHECK_SECONDS + BROKER_SOCKET_SECONDS + BROKER_CONNECT_SECONDS < CELERY_VISIBILITY_SECONDS
        ),
    ),
    (
        "lost tasks are sought more often than a task may last",
        lambda: CELERY_RESTORE_INTERVAL_SECONDS < CELERY_SOFT_LIMIT_SECONDS,
    ),
    (
        "a task whose process died is tried again at once",
        lambda: CELERY_RETRY_DELAY_SECONDS < CELERY_RESTORE_INTERVAL_SECONDS,
    ),
    (
        "a reconnecting worker is not taken for a deaf one",
        lambda: BROKER_HEALTH_CHECK_SECONDS + BROKER_CONNECT_SECONDS + BROKER_AGAIN_SECONDS < DEAF_MARGIN_SECONDS,
    ),
    (
        "a deaf worker is replaced before its messages come again",
        lambda: (
            CELERY_HARD_LIMIT_SECONDS + DEAF_MARGIN_SECONDS + DEAF_LOOK_SECONDS + DEAF_END_SECONDS
            < CELERY_VISIBILITY_SECONDS
        ),
    ),
    ("a task is asked to stop before it is killed", lambda: CELERY_SOFT_LIMIT_SECONDS < CELERY_HARD_LIMIT_SECONDS),
    ("a killed task ends before the shutdown does", lambda: CELERY_HARD_LIMIT_SECONDS < CELERY_SOFT_SHUTDOWN_SECONDS),
    ("the shutdown ends before the supervisor kills", lambda: CELERY_SOFT_SHUTDOWN_SECONDS < SUPERVISOR_KILL_SECONDS),
    ("no task runs twice while it is alive", lambda: SUPERVISOR_KILL_SECONDS < CELERY_VISIBILITY_SECONDS),
    ("a simulation is heard of often", lambda: 10 * BACKTEST_REPORT_SECONDS < CELERY_SOFT_LIMIT_SECONDS),
    (
        "a simulation may be silent longer than a task may last",
        lambda: CELERY_HARD_LIMIT_SECONDS < BACKTEST_LOST_SECONDS,
    ),
    (
        "a lost simulation is noticed before its time is over",
        lambda: BACKTEST_LOST_SECONDS < BACKTEST_SOFT_LIMIT_SECONDS,
    ),
    (
        "a simulation is asked to stop before it is killed",
        lambda: BACKTEST_SOFT_LIMIT_SECONDS < BACKTEST_HARD_LIMIT_SECONDS,
    ),
    # PostgreSQL
    ("connecting ends before a statement would", lambda: POSTGRES_CONNECT_SECONDS * 1000 < POSTGRES_STATEMENT_TASK_MS),
    ("a lock wait ends before its statement", lambda: POSTGRES_LOCK_MS < POSTGRES_STATEMENT_TASK_MS),
    ("a statement ends before its task", lambda: POSTGRES_STATEMENT_TASK_MS < CELERY_SOFT_LIMIT_SECONDS * 1000),
    ("a page may ask longer than a task", lambda: POSTGRES_STATEMENT_TASK_MS < POSTGRES_STATEMENT_WEB_MS),
    ("a page ends before its browser's socket", lambda: POSTGRES_STATEMENT_WEB_MS < LIVE_WS_PING_SECONDS * 1000),
    (
        "a statement whose client is gone ends before a task gives up waiting for its lock",
        lambda: POSTGRES_CLIENT_CHECK_MS < POSTGRES_LOCK_MS,
    ),
    ("an idle transaction outlives a statement", lambda: POSTGRES_STATEMENT_TASK_MS < POSTGRES_IDLE_IN_TRANSACTION_MS),
    (
        "an idle transaction ends before its task is killed",
        lambda: POSTGRES_IDLE_IN_TRANSACTION_MS < CELERY_HARD_LIMIT_SECONDS * 1000,
    ),
    (
        "a dead connection ends before its task is killed",
        lambda: POSTGRES_TCP_USER_TIMEOUT_MS < CELERY_HARD_LIMIT_SECONDS * 1000,
    ),
)


def broken_relations() -> tuple[str, ...]:
    """The relations that do not hold, in words; empty in a sound system."""
    return tuple(words for words, holds in _RELATIONS if not holds())


assert not broken_relations(), f"timeouts out of order: {broken_relations()}"
