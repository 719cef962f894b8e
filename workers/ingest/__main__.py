"""`python -m workers.ingest --config FILE`, see docs/ingest.md.

Exit codes: 0 after a stop that was asked for, 1 after an error of our own, 2 for input that cannot be used,
3 when a newer ingest has taken over.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from apps.bus import failpoints
from workers.ingest.clock import Clock
from workers.ingest.config import Config, ConfigError, load
from workers.ingest.web import StatusServer
from workers.ingest.worker import Worker

EXIT_BAD_INPUT: Final = 2
# Several receiving threads share the interpreter with one busy consumer; a shorter turn keeps their reads prompt.
_SWITCH_SECONDS: Final = 0.001
# Rows live for milliseconds and are no cycles: looking at them after every 700 costs a tenth of the work on a frame.
_COLLECT_AFTER: Final = (50_000, 20, 20)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.ingest", description="Exchange frames in, stream out.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="{asctime} {levelname} {name} {message}", style="{", stream=sys.stderr
    )
    try:
        failpoints.arm_from(os.environ)
        config = load(options.config)
        server = _listen(config)
        server.start()
    except (ConfigError, failpoints.FailpointError) as error:
        sys.stderr.write(f"ingest: {error}\n")
        return EXIT_BAD_INPUT
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    worker = Worker(config, server, Clock(config.clock_rate), random.Random())
    threading.excepthook = ends(worker)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signal_number, _: worker.stop(signal.Signals(signal_number).name))
    return worker.run()


def _listen(config: Config) -> StatusServer:
    try:
        return StatusServer(config.http_host, config.http_port)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot listen on {config.http_host}:{config.http_port}: {reason}") from error


def ends(worker: Worker) -> Callable[[threading.ExceptHookArgs], object]:
    """No thread may die in silence while the others look alive."""

    def hook(arguments: threading.ExceptHookArgs) -> None:
        threading.__excepthook__(arguments)
        worker.fail(f"{arguments.exc_type.__name__} in {arguments.thread.name if arguments.thread else 'a thread'}")

    return hook


if __name__ == "__main__":
    sys.exit(main())
