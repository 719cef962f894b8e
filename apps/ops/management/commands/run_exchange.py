"""Start the local exchange where its market last stood."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from apps.market.selectors import current_epoch, reached_ms, unread_shards
from apps.ops.services.sessions import fingerprint

MINUTE_MS = 60_000


class Command(BaseCommand):
    help = "Become the local exchange that runtime.json describes; a replay goes on where it stood."

    def handle(self, *_: Any, **__: Any) -> None:
        runtime = settings.RUNTIME
        if not runtime.get("exchange", {}).get("port"):
            raise CommandError("runtime.json names no local exchange", returncode=2)
        arguments = ["--port", str(runtime["exchange"]["port"]), "--speed", str(runtime.get("speed") or 1)]
        files = [str(path) for path in runtime.get("replay_files") or []]
        if files:
            for path in files:
                arguments += ["--replay", path]
        else:
            arguments += ["--source", "synthetic", "--seed", str(runtime.get("seed") or 1)]
        source = f"replay:{fingerprint(tuple(map(Path, files)))}" if files else f"synthetic:{runtime.get('seed') or 1}"
        resume = self._resume_ms(source, replay=bool(files))
        if resume is not None:
            arguments += ["--resume-ms", str(resume)]
        os.execv(sys.executable, [sys.executable, "-m", "workers.exchange", *arguments])  # noqa: S606  (no shell)

    def _resume_ms(self, source: str, *, replay: bool) -> int | None:
        """Event time to go on from: for a replay where every shard has arrived; for a synthetic market only if its
        clock, which begins at the running minute, would otherwise step back."""
        try:
            epoch = current_epoch()
        except DatabaseError:
            return None
        if epoch is None or epoch.source != source or epoch.shard_count != settings.SHARD_COUNT:
            return None
        reached = reached_ms(epoch_id=epoch.pk)
        if reached is None or unread_shards(epoch_id=epoch.pk):
            return None
        now_minute = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
        return reached if replay or reached >= now_minute else None
