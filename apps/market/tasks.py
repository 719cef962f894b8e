"""Doors of the archive's tasks. Nothing that trades waits for them or fails with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from celery import shared_task
from django.conf import settings

ARCHIVE_SECONDS: Final = 7  # what was begun then may take as long again before the soft limit


@shared_task(name="market.archive_feed", max_retries=0)
def archive_feed() -> None:
    """What has ended since the last look leaves the segments for the archive; the rest waits for the next minute."""
    from apps.market.archive.keeping import archive_due  # brings polars, which only this task's process shall carry

    archive_due(
        root=settings.ARCHIVE_DIR,
        segments=settings.SEGMENTS_DIR,
        now_ms=time.time_ns() // 1_000_000,
        enough=after(ARCHIVE_SECONDS),
    )


@shared_task(name="market.prune_archive", max_retries=0)
def prune_archive() -> None:
    """Remove what the retention settings say."""
    from apps.market.archive.pruning import prune

    prune(
        root=settings.ARCHIVE_DIR,
        segments=settings.SEGMENTS_DIR,
        now_ms=time.time_ns() // 1_000_000,
        archive_days=settings.ARCHIVE_DAYS,
        segment_days=settings.SEGMENT_DAYS,
    )


def after(seconds: float) -> Callable[[], bool]:
    began = time.time()
    return lambda: abs(time.time() - began) > seconds
