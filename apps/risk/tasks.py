"""The doors of risk: a message names a signal, or an account whose results or state have changed."""

from __future__ import annotations

import time
from functools import cache, partial

import redis
from celery import shared_task
from django.conf import settings
from django.db import OperationalError

from apps.bus import clients
from apps.bus.feed import FeedAge, feed_age
from apps.engine.risk.values import OrderPath
from apps.risk import services
from apps.risk.services.path import read_path


@cache
def _reader() -> redis.Redis:
    """One client per worker process, made at the first task."""
    return clients.glance(settings.REDIS_URL)


def _feed_age(now_ms: int, epoch: int, symbol: str) -> FeedAge:
    return feed_age(_reader(), epoch=epoch, symbol=symbol, now_ms=now_ms)


def _path(now_ms: int, epoch: int) -> OrderPath:
    return read_path(_reader(), version=settings.CODE_HASH, now_ms=now_ms, epoch_id=epoch)


@shared_task(name="risk.assess_signal", max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1)
def assess_signal(signal_id: int) -> None:
    """Decide on one signal. What is left undecided is brought up again by the steward."""
    now_ms = int(time.time() * 1000)
    services.assess(
        signal_id=signal_id, now_ms=now_ms, feed=partial(_feed_age, now_ms), path=partial(_path, now_ms),
        order_cap=settings.ORDER_NOTIONAL_CAP,
    )  # fmt: skip


@shared_task(name="risk.review_tier", max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1)
def review_tier(account_id: int, change_id: int = 0) -> None:
    """Move the tiers that an account's results ask for, or that the breaker of a state change takes down."""
    services.review_tier(account_id=account_id, change_id=change_id)
