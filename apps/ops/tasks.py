"""Doors of the operations tasks."""

from __future__ import annotations

import time

from celery import shared_task
from django.conf import settings

from apps.bus import clients, streams
from apps.market.selectors import current_epoch
from apps.market.services.sweep import sweep, symbols_per_run
from apps.ops.services import following
from apps.ops.services.exchange import exchange_rest

SWEEP_SECONDS = 6  # the last call may take as long again before the soft limit


@shared_task(name="ops.note_beat", max_retries=0)
def note_beat() -> None:
    """Sent by beat, done by a worker: while this is fresh, schedule, broker and worker all do something."""
    _beat("beat")


@shared_task(name="ops.answer", max_retries=0)
def answer(name: str, *, engine: bool) -> None:
    """Sent to one worker's queue: its answer proves broker and worker, and warms the engine where it will judge."""
    if engine:
        from apps.engine.strategies import warm_up_kernels  # brings numba: only the processes that drain shall carry it

        warm_up_kernels()
    _beat(name)


@shared_task(name="ops.sweep_klines", max_retries=0)
def sweep_klines() -> None:
    """A slice of the symbols each minute, so that each is compared with the exchange's klines every hour."""
    epoch = current_epoch()
    if epoch is None:
        return
    began = time.time()
    sweep(
        epoch=epoch.pk,
        rest=exchange_rest(wait_max_seconds=1.0),
        now_ms=time.time_ns() // 1_000_000,
        limit=symbols_per_run(epoch=epoch.pk),
        enough=lambda: abs(time.time() - began) > SWEEP_SECONDS,
    )


@shared_task(name="ops.choose_symbols", max_retries=0)
def choose_symbols() -> None:
    """Looks each minute whether the rule's pause is over; a live feed's symbols are chosen anew then."""
    epoch = current_epoch()
    if epoch is not None:
        following.choose_symbols(epoch=epoch, rest=exchange_rest(), now_ms=time.time_ns() // 1_000_000)


def _beat(name: str) -> None:
    clients.writer(settings.REDIS_URL).set(streams.heartbeat_key(name), time.time_ns() // 1_000_000, ex=3600)
