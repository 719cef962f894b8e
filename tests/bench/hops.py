"""Round trips of an empty task through the running stack: `python -m tests.bench.hops COUNT EVERY_SECONDS`.

The task sets one key and ends; it goes to the queue that decides and sends. A round trip is from before the message is
made until the key is seen. Prints one line of JSON: milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Final

import django

NAME: Final = "bench"
LOOK_SECONDS: Final = 0.0002
WARM_UP: Final = 20
GIVE_UP_SECONDS: Final = 10


def main(count: int, every_seconds: float) -> list[float]:
    django.setup()
    from celery import current_app
    from django.conf import settings

    import cdb_project.celery  # noqa: F401 - makes the application the current one
    from apps.bus import clients, streams
    from cdb_project.pipeline import TRADE_QUEUE

    redis, key = clients.writer(settings.REDIS_URL), streams.heartbeat_key(NAME)
    taken = []
    for _ in range(count + WARM_UP):
        redis.delete(key)
        began = time.perf_counter()
        current_app.send_task("ops.answer", args=[NAME], kwargs={"engine": False}, queue=TRADE_QUEUE)
        while not redis.exists(key):
            if time.perf_counter() - began > GIVE_UP_SECONDS:
                raise SystemExit("no answer to an empty task")
            time.sleep(LOOK_SECONDS)
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(every_seconds)
    return taken[WARM_UP:]


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    print(json.dumps(main(int(sys.argv[1]), float(sys.argv[2]))))
