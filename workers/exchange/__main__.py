"""`python -m workers.exchange`: the local exchange as a process of its own, see docs/exchange.md."""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from apps.engine.instrument_specs import RecordingError
from workers.exchange.candles import MINUTE_MS
from workers.exchange.files import read_recordings
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource
from workers.exchange.replay import ReplaySource
from workers.exchange.server import CannotListenError, ExchangeServer, running
from workers.exchange.synthetic import SyntheticSource

EXIT_BAD_INPUT: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after a stop that was asked for, 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    log = EventLog()
    try:
        source = _source(options)
        if options.check:
            return 0
        asyncio.run(_serve(source, options, log))
    except (RecordingError, CannotListenError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.exchange", description="A local stand-in for MEXC spot.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free port; it is named in the first log line")
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--source", choices=["synthetic"])
    sources.add_argument("--replay", type=Path, action="append", metavar="FILE", help="may be given several times")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=_speed, default=1.0, help="event time per wall time")
    parser.add_argument("--resume-ms", type=_time_ms, help="start event time here")
    parser.add_argument("--check", action="store_true", help="only validate the input")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not a port")
    return port


def _speed(text: str) -> float:
    speed = float(text)
    if not (math.isfinite(speed) and 0 < speed <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text} is not a speed between 0 and 1,000,000")
    return speed


def _time_ms(text: str) -> int:
    time_ms = int(text)
    if not 0 < time_ms < 10**14:
        raise argparse.ArgumentTypeError(f"{text} is not a time in milliseconds")
    return time_ms


def _source(options: argparse.Namespace) -> MarketSource:
    if options.replay:
        return ReplaySource(read_recordings(options.replay), options.resume_ms)
    if options.resume_ms is not None:
        return SyntheticSource(options.seed, options.resume_ms, resumed=True)
    wall_ms = time.time_ns() // 1_000_000
    return SyntheticSource(options.seed, wall_ms // MINUTE_MS * MINUTE_MS)


async def _serve(source: MarketSource, options: argparse.Namespace, log: EventLog) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with running(ExchangeServer(source, speed=options.speed, log=log), options.host, options.port) as server:
        log.event(
            "listening",
            host=options.host,
            port=server.port,
            source=source.kind,
            symbols=len(source.instruments),
            speed=options.speed,
            start_ms=source.start_ms,
        )
        await server.run_until(stop)
    log.event("stopped")


if __name__ == "__main__":
    sys.exit(main())
