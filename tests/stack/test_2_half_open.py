"""Finding 2: a broker connection that swallows everything stops Celery for good, unless sockets have a timeout.

A message that the server hands to the lost connection is gone in both cases: the steward rings again for it.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.stack.conftest import MakeSender, StartWorker
from tests.stack.proxy import Proxy
from tests.stack.valkey import OwnValkey
from tests.stack.worker import DEFAULTS, OURS, lines, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
DARK_SECONDS = 20
# The steward's canary calls a worker dead after this long.
RECOVERY_SECONDS_MAX = 45


def test_our_worker_comes_back_from_a_black_hole(
    own_valkey: OwnValkey, proxy: Proxy, start_worker: StartWorker, make_sender: MakeSender, tmp_path: Path
) -> None:
    through_proxy = own_valkey.url().replace(f":{own_valkey.port}/", f":{proxy.port}/")
    ours, defaults = tmp_path / "ours.txt", tmp_path / "defaults.txt"
    workers = [
        start_worker("ours", OURS, through_proxy, "ours"),
        start_worker("defaults", DEFAULTS, through_proxy, "defaults"),
    ]
    sender = make_sender(own_valkey.url())

    def send(word: str) -> None:
        for path in (ours, defaults):
            sender.send("stack.note", str(path), word, queue=path.stem)

    for worker in workers:
        worker.wait_until_ready()
    send("before")
    wait_until(lambda: lines(ours) == lines(defaults) == ["before"], 10)

    proxy.go_dark()
    dark_until = time.monotonic() + DARK_SECONDS
    wait_until(lambda: time.monotonic() > dark_until, DARK_SECONDS + 1)
    proxy.light_up()
    send("after")

    took = wait_until(lambda: "after" in lines(ours), RECOVERY_SECONDS_MAX)
    print(f"\nour settings: back {took:.1f} s after the network")
    time_left = max(0.1, RECOVERY_SECONDS_MAX - took)
    with pytest.raises(AssertionError, match="not within"):  # else the library alone recovers: socket_timeout may go
        wait_until(lambda: "after" in lines(defaults), time_left)
