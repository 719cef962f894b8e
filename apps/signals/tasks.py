"""The doors of signals: a wake-up names a shard or a failure, the services look what there is."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from celery import current_app, shared_task
from django.conf import settings
from django.db import OperationalError

from apps.bus import clients
from apps.bus.failpoints import failpoint
from apps.signals.services import failures

if TYPE_CHECKING:  # the drain brings numba, which only the processes that drain shall carry
    from apps.signals.services.drain import Tools


@cache
def tools() -> Tools:
    """One set of clients per worker process, made at the first task (never before a fork)."""
    from apps.signals.services import drain

    return drain.Tools(
        writer=clients.writer(settings.REDIS_URL),
        reader=clients.reader(settings.REDIS_URL),
        segments=settings.SEGMENTS_DIR,
        engine_hash=settings.ENGINE_HASH,
    )


# Many a second: to tell flower of each would cost as much as the draining. What decides and sends is told.
@shared_task(
    name="signals.drain_shard", send_events=False, max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1
)
def drain_shard(epoch: int, shard: int) -> None:
    """Drain one shard and stay while its neighbours in this process flow; ring again if there is more, and for orders
    that may meet their quote now."""
    from apps.signals.services import attending, drain

    def ring(number: int) -> None:
        drain_shard.apply_async(kwargs={"epoch": epoch, "shard": number}, queue=f"shard.{number}")

    def orders_wait(number: int) -> None:
        current_app.send_task(settings.PIPELINE_ROUTES["WatermarkAdvanced"], kwargs={"epoch": epoch, "shard": number})

    found = drain.drain_shard(epoch=epoch, shard=shard, tools=tools())
    if found.orders_waiting:
        orders_wait(shard)
    if found.more:
        ring(shard)
    elif not found.locked:
        for number in attending.attend(epoch=epoch, tools=tools(), orders_wait=orders_wait):
            ring(number)
    failpoint("drain.before_ack")


@shared_task(name="signals.disable_strategy", max_retries=2, autoretry_for=(OperationalError,), retry_backoff=1)
def disable_strategy(failure_id: int) -> None:
    """Disable in all shards what failed in one."""
    failures.disable_failed(failure_id=failure_id)
