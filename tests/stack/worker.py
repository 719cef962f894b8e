"""A Celery worker as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from apps.ops.embedded.server import die_with_parent
from tests.house.sources import REPOSITORY

OURS = "tests.stack.ours"
DEFAULTS = "tests.stack.defaults"
START_SECONDS = 30


class Worker:
    """Started at once; `wait_until_ready` returns when it takes tasks of queue `queue`."""

    def __init__(
        self,
        log: Path,
        application: str,
        url: str,
        queue: str,
        *,
        options: dict[str, Any] | None = None,
        visibility_seconds: int | None = None,
    ) -> None:
        self._log = log
        environment = {**os.environ, "REDIS_URL": url, "STACK_OPTIONS": json.dumps(options or {})}
        if visibility_seconds is not None:
            environment["STACK_VISIBILITY_SECONDS"] = str(visibility_seconds)
        flags = ["--concurrency=1", f"--queues={queue}", f"--hostname={log.stem}@%h", "--loglevel=INFO"]
        if application == OURS:
            flags += ["--without-gossip", "--without-mingle"]
        else:
            environment.pop("DJANGO_SETTINGS_MODULE", None)  # Celery would set our Django up, and with it our settings
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", application, "worker", *flags],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def wait_until_ready(self) -> None:
        wait_until(lambda: " ready." in self.said() or self.process.poll() is not None, START_SECONDS)
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """Kill -9 of the main process and all its children."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    def kill_main_process(self) -> None:
        """Kill -9 of the main process alone."""
        self.process.kill()
        self.process.wait(timeout=10)


class Sender:
    """Puts messages into a queue, straight at the server."""

    def __init__(self, url: str) -> None:
        self._celery = Celery("sender", broker=url, set_as_current=False)

    def send(self, task: str, *arguments: object, queue: str) -> None:
        self._celery.send_task(task, args=arguments, queue=queue, ignore_result=True)

    def close(self) -> None:
        self._celery.close()


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds it took. Fails when they are over."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s"
        time.sleep(0.05)
    return time.monotonic() - began


def lines(path: Path) -> list[str]:
    """What tasks have left in a file so far."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
