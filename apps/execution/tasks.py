"""The doors of execution: a message names an intent, an order or a shard; the service looks what there is to do."""

from __future__ import annotations

import time
from functools import cache, partial

import redis
from celery import shared_task
from django.conf import settings
from django.db import OperationalError

from apps.bus import clients
from apps.bus.feed import FeedAge, feed_age
from apps.execution import services
from apps.execution.models import ReconcileRun
from apps.execution.venues.quotes import Reader
from apps.portfolio.selectors import current_session, main_account


@cache
def _glance() -> redis.Redis:
    """One client per worker process, made at the first task."""
    return clients.glance(settings.REDIS_URL)


@cache
def _reader() -> redis.Redis:
    return clients.reader(settings.REDIS_URL)


def _feed_age(now_ms: int, epoch: int, symbol: str) -> FeedAge:
    return feed_age(_glance(), epoch=epoch, symbol=symbol, now_ms=now_ms)


@shared_task(name="execution.submit_order", max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1)
def submit_order(intent_id: int) -> None:
    now_ms = int(time.time() * 1000)
    services.submit_order(intent_id=intent_id, now_ms=now_ms, feed=partial(_feed_age, now_ms))


# Many a second, as drains: flower is not told.
@shared_task(
    name="execution.match_orders", send_events=False, max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1
)
def match_orders(epoch: int, shard: int) -> None:
    services.match_orders(epoch=epoch, shard=shard, reader=Reader(_reader(), settings.SEGMENTS_DIR, epoch, shard))


@shared_task(name="execution.apply_reports", max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1)
def apply_reports(order_id: int) -> None:
    services.sync_order(order_id=order_id)


@shared_task(name="execution.reconcile", max_retries=0)
def reconcile(scope: str) -> None:
    """Sent by beat: open orders often, fills and balances each minute."""
    session = current_session()
    account = main_account(session) if session else None
    if account is None:
        return
    if scope != ReconcileRun.Scope.ORDERS:
        services.collect_fills(account_id=account.pk)
    services.reconcile(
        account_id=account.pk,
        scope=scope,
        clock=lambda: time.time_ns() // 1_000_000,
    )
