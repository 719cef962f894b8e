"""The keeper: what drain workers and steward do for a feed, in one process that many runs share one after the other.

It is asked by lines of JSON on its standard input and answers each with one line:

    {"do": "begin", "rest_url", "ws_url", "source", "shards", "rate"}   a new epoch of everything the exchange lists
    {"do": "end"}   drain what is left, forget the epoch
    {"do": "quit"}

Between `begin` and `end` it drains all shards without pause for breath and does the steward's duties for the feed.
Redis may be away at any moment: that is counted, not fatal. Any other error ends up in the answer to `end`.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from django.conf import settings
from django.db import OperationalError

from apps.bus import clients
from apps.market import rest
from apps.market.services import feeds
from apps.signals.services import drain
from tests.faults.duties import Duty, duties

PAUSE_SECONDS: Final = 0.03
ERRORS_KEPT: Final = 5


@dataclass
class Watch:
    """One epoch under our care."""

    epoch: int
    shards: int
    duties: list[Duty]
    rounds: int = 0
    away: int = 0  # rounds in which Redis or PostgreSQL did not answer
    errors: list[str] = field(default_factory=list)


class Keeper:
    def __init__(self) -> None:
        self._asked: queue.Queue[dict[str, Any]] = queue.Queue()
        self._watch: Watch | None = None
        self._tools = drain.Tools(
            writer=clients.writer(settings.REDIS_URL),
            reader=clients.reader(settings.REDIS_URL),
            segments=settings.SEGMENTS_DIR,
            engine_hash=settings.ENGINE_HASH,
        )

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            try:
                asked = self._asked.get(timeout=PAUSE_SECONDS if self._watch else None)
            except queue.Empty:
                self._round()
                continue
            if asked["do"] == "quit":
                return
            sys.stdout.write(json.dumps(self._answer(asked)) + "\n")
            sys.stdout.flush()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._asked.put(json.loads(line))
        self._asked.put({"do": "quit"})

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._begin(asked) if asked["do"] == "begin" else self._end()
        except Exception:  # noqa: BLE001  (the asker fails its run with it)
            return {"error": traceback.format_exc()}

    def _begin(self, asked: dict[str, Any]) -> dict[str, Any]:
        rest_url = asked["rest_url"]
        settings.RUNTIME = {**settings.RUNTIME, "exchange": {"rest_url": rest_url, "ws_url": asked["ws_url"]}}
        listed = rest.exchange_info(rest_url)
        symbols = sorted(listed)
        instruments = feeds.store_instruments(source=asked["source"], rows=listed, symbols=symbols)
        epoch, _ = feeds.continue_or_begin(
            kind="synthetic",
            source=asked["source"],
            description="fault run",
            shard_count=asked["shards"],
            instruments=instruments,
        )
        self._watch = Watch(epoch.pk, asked["shards"], duties(epoch.pk, rest_url, asked["rate"], self._tools))
        rows = [
            {
                "symbol": row.symbol,
                "price_decimals": row.price_decimals,
                "quantity_decimals": row.quantity_decimals,
            }
            for row in instruments
        ]
        return {"epoch": epoch.pk, "symbols": rows}

    def _end(self) -> dict[str, Any]:
        watch = self._watch
        if watch is None:
            return {"error": "no epoch has begun"}
        for _ in range(100):
            if not self._drain(watch):
                break
        self._watch = None
        drain.forget()
        return {"rounds": watch.rounds, "away": watch.away, "errors": watch.errors}

    def _round(self) -> None:
        watch = self._watch
        assert watch is not None
        watch.rounds += 1
        self._guarded(watch, lambda: self._drain(watch))
        for duty in watch.duties:
            if time.monotonic() >= duty.due:
                duty.due = time.monotonic() + duty.every_seconds
                self._guarded(watch, duty.perform)

    def _drain(self, watch: Watch) -> int:
        shards = range(watch.shards)
        return sum(drain.drain_shard(epoch=watch.epoch, shard=shard, tools=self._tools).entries for shard in shards)

    @staticmethod
    def _guarded(watch: Watch, perform: Callable[[], object]) -> None:
        try:
            perform()
        except (redis.RedisError, OperationalError, rest.RestError) as error:
            watch.away += 1
            logging.getLogger(__name__).info("away: %s", error)
        except Exception:
            logging.getLogger(__name__).exception("a duty failed")
            if len(watch.errors) < ERRORS_KEPT:
                watch.errors.append(traceback.format_exc())
