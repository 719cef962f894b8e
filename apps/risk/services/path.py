"""What a decision is told of the order path: lease, code versions and heartbeats, read before the account is locked,
and what the last reconciliation left, which stands in the account's own row."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import redis

from apps.bus.workers import order_path
from apps.engine.risk.values import OrderPath
from apps.market.feed_history import lease
from apps.risk.models import RiskState

RECON_WORDS_MAX: Final = 200


def note_reconciliation(*, account_id: int, differences: int | None, words: str) -> None:
    """What the last reconciliation left; decisions from here on are told. None: it could not be known."""
    RiskState.objects.filter(account_id=account_id).update(
        recon_differences=differences, recon_words=words[:RECON_WORDS_MAX]
    )  # fmt: skip


def read_path(client: redis.Redis, *, version: str, now_ms: int, epoch_id: int) -> OrderPath:
    """The path of an epoch's orders. `version` is the hash of the sources that run here. One query."""
    held = lease(epoch_id=epoch_id)
    age_ms = None if held is None else held.age_ms
    words = "no ingest has taken it" if held is None or not held.token else "it was given back and nobody has taken it"
    path = order_path(client, version=version, now_ms=now_ms)
    return replace(path, lease_age_ms=age_ms, lease_words=words if age_ms is None else "")
