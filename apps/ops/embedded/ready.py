"""Waiting until a server really answers, not until its process exists."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.ops.embedded.home import Refusal

PAUSE_SECONDS = 0.05


def wait_for_postgres(url: str, seconds: float = 30, alive: Callable[[], bool] = lambda: True) -> None:
    """Return when a query with the URL's own password was answered. Raises Refusal with the last reason."""

    def ask() -> None:
        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")

    _wait("PostgreSQL", ask, seconds, alive)


def wait_for_redis(url: str, seconds: float = 30, alive: Callable[[], bool] = lambda: True) -> None:
    """Return when a PING was answered; a server that still loads its file refuses it."""

    def ask() -> None:
        with redis.Redis.from_url(url, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
            client.ping()

    _wait("Valkey", ask, seconds, alive)


def _wait(name: str, ask: Callable[[], None], seconds: float, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (psycopg.OperationalError, redis.RedisError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if not alive():
            raise Refusal(f"{name} ended while it was starting ({reason}); its log says why")
        if time.monotonic() > deadline:
            raise Refusal(f"{name} did not answer within {seconds:g} s: {reason}")
        time.sleep(PAUSE_SECONDS)
