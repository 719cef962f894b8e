"""From the paper venue's fills to ours: match what has matured, then ask about each order that has ended."""

from __future__ import annotations

from pathlib import Path

import redis

from apps.execution.models import Order, VenueOrder
from apps.execution.services.asking import sync_order
from apps.execution.venues.matching import match_shard
from apps.execution.venues.quotes import Reader


def match_orders(*, epoch: int, shard: int, reader: Reader) -> int:
    """Match the open paper orders of a shard and book what came of it. Returns how many orders ended."""
    ended = match_shard(epoch=epoch, shard=shard, reader=reader)
    for order_id in Order.objects.filter(client_order_id__in=ended).order_by("id").values_list("pk", flat=True):
        sync_order(order_id=order_id)
    return len(ended)


def match_waiting(*, epoch: int, client: redis.Redis, segments: Path) -> int:
    """`match_orders` for every shard of the epoch in which paper orders wait. Returns how many orders ended."""
    waiting = VenueOrder.objects.filter(epoch_id=epoch, status=VenueOrder.Status.OPEN)
    shards = sorted(set(waiting.values_list("shard", flat=True)))
    return sum(
        match_orders(epoch=epoch, shard=shard, reader=Reader(client, segments, epoch, shard)) for shard in shards
    )
