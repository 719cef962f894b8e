"""Ringing a Celery task without knowing the Celery application.

The message says only which shard to look at; a lost, doubled or late one changes nothing.
"""

from __future__ import annotations

from celery import Celery

from apps.engine import timeouts


class Doorbell:
    """Sends wake-up tasks to the broker. Safe to use from one thread at a time."""

    def __init__(self, broker_url: str, task_name: str) -> None:
        self._task_name = task_name
        self._celery = Celery("doorbell", broker=broker_url, set_as_current=False)
        self._celery.conf.update(
            broker_transport_options={
                "socket_timeout": timeouts.BROKER_SOCKET_SECONDS,
                "socket_connect_timeout": timeouts.BROKER_CONNECT_SECONDS,
                "visibility_timeout": timeouts.CELERY_VISIBILITY_SECONDS,
            },
            task_ignore_result=True,
        )

    def ring(self, epoch: int, shard: int) -> None:
        """Wake the drain of one shard. Raises the broker's error; the steward rings again for what was missed."""
        self._celery.send_task(
            self._task_name, kwargs={"epoch": epoch, "shard": shard}, queue=f"shard.{shard}", retry=False
        )
