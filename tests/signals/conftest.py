"""A shard on real servers: an epoch, a session, a stream that tests write to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings

from apps.bus import clients
from apps.engine.strategies import warm_up_kernels
from apps.signals.services import drain


@pytest.fixture
def tools(redis_client: redis.Redis, tmp_path: Path) -> Iterator[drain.Tools]:
    """The drain's tools on the test servers; whatever was warm from another test is forgotten."""
    drain.forget()
    warm_up_kernels()  # as a drain process does when it starts: compiling takes longer than a transaction may idle
    yield drain.Tools(
        writer=clients.writer(settings.REDIS_URL),
        reader=clients.reader(settings.REDIS_URL),
        segments=tmp_path / "segments",
        engine_hash=settings.ENGINE_HASH,
        entries_per_read=7,
    )
    drain.forget()
