"""`python -m workers.exchange`: the local exchange as a process of its own, see docs/exchange.md."""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from apps.engine.instrument_specs import RecordingError
from workers.exchange.candles import MINUTE_MS
from workers.exchange.faults.script import Cue, ScriptError, read_script
from workers.exchange.files import read_recordings
from workers.exchange.instruments import SYMBOLS_MAX, MarketShape
from workers.exchange.journal import Journal
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource, UnknownSymbolError
from workers.exchange.private.accounts import Account, AccountFileError, read_account
from workers.exchange.replay import ReplaySource
from workers.exchange.server import CannotListenError, ExchangeServer, running
from workers.exchange.synthetic import SyntheticSource

EXIT_BAD_INPUT: Final = 2


class TlsError(Exception):
    """A certificate or key that cannot be used; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after a stop that was asked for, 2 for input that cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    log = EventLog()
    try:
        source = _source(options)
        script = read_script(options.script) if options.script else []
        tls = _tls(options)
        if options.check:
            return 0
        accounts = [read_account(path) for path in options.account]
        asyncio.run(_serve(source, options, log, script, tls, accounts))
    except (RecordingError, CannotListenError, UnknownSymbolError, ScriptError, TlsError, AccountFileError) as error:
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
    parser.add_argument(
        "--rate", type=_rate, default=1.0, help="how fast the exchange's own rules run (30 s, 60 s, 24 h)"
    )
    parser.add_argument("--journal", type=Path, metavar="FILE", help="append what was made and sent, one JSON per line")
    parser.add_argument("--symbols", type=_symbols, help="a number, or names with commas between them")
    parser.add_argument("--trades-per-second", type=_positive, help="of all synthetic symbols together")
    parser.add_argument("--quotes-per-second", type=_positive, help="changed quotes of all synthetic symbols together")
    parser.add_argument("--quote-repeat-ms", type=_positive, help="how often an unchanged quote is repeated")
    parser.add_argument("--no-trade-ids", action="store_true", help="trades without ids, as before 2026-06")
    parser.add_argument("--no-rest-limit", action="store_true", help="lift the limit of the REST weights (for benches)")
    parser.add_argument("--script", type=Path, metavar="FILE", help="faults with their times, a JSON list")
    parser.add_argument("--fault-seed", type=int, default=0, help="what random choices of faults depend on")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve TLS with this certificate chain (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="and its private key")
    parser.add_argument(
        "--account",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="serve orders of this account (JSON); key and secret are made beside it, may be given several times",
    )
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


def _rate(text: str) -> float:
    rate = float(text)
    if not (math.isfinite(rate) and 1 <= rate <= 1_000):
        raise argparse.ArgumentTypeError(f"{text} is not a rate between 1 and 1,000")
    return rate


def _positive(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and 0 < number <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1,000,000")
    return number


def _symbols(text: str) -> int | tuple[str, ...]:
    if not text.isdigit():
        return tuple(text.split(","))
    if not 1 <= int(text) <= SYMBOLS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a number of symbols from 1 to {SYMBOLS_MAX:,}")
    return int(text)


def _time_ms(text: str) -> int:
    time_ms = int(text)
    if not 0 < time_ms < 10**14:
        raise argparse.ArgumentTypeError(f"{text} is not a time in milliseconds")
    return time_ms


def _source(options: argparse.Namespace) -> MarketSource:
    if options.replay:
        recording = read_recordings(options.replay)
        return ReplaySource(recording, options.resume_ms, trade_ids=not options.no_trade_ids)
    shape = MarketShape(
        options.symbols or 10,
        options.trades_per_second,
        options.quotes_per_second,
        trade_ids=not options.no_trade_ids,
    )
    if options.resume_ms is not None:
        return SyntheticSource(options.seed, options.resume_ms, resumed=True, shape=shape)
    return SyntheticSource(options.seed, _wall_ms() // MINUTE_MS * MINUTE_MS, shape=shape)


def _limits(options: argparse.Namespace) -> Limits:
    limits = Limits().at_rate(options.rate)
    if options.no_rest_limit:
        limits = replace(limits, rest_weight_max=None)
    if options.quote_repeat_ms:
        ticks = round(options.quote_repeat_ms / 1_000 / limits.tick_seconds)
        limits = replace(limits, quote_repeat_ticks=max(ticks, 1))
    return limits


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """A server's context; raises TlsError for files that cannot be used."""
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{options.tls_cert} and {options.tls_key} cannot be used: {error}") from None
    return context


async def _serve(
    source: MarketSource,
    options: argparse.Namespace,
    log: EventLog,
    script: Sequence[Cue],
    tls: ssl.SSLContext | None,
    accounts: Sequence[Account],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    journal = Journal(options.journal, source, _wall_ms)
    server = ExchangeServer(
        source,
        speed=options.speed,
        rate=options.rate,
        limits=_limits(options),
        log=log,
        journal=journal,
        script=script,
        fault_seed=options.fault_seed,
        tls=tls,
        accounts=accounts,
        first_id=_wall_ms() * 1_000_000,
    )
    async with running(server, options.host, options.port):
        journal.event(
            "start",
            source=source.kind,
            seed=options.seed,
            symbols=list(source.instruments),
            start_ms=source.start_ms,
            speed=options.speed,
            rate=options.rate,
            tls=tls is not None,
            trade_ids=source.trade_ids,
            port=server.port,
        )
        journal.flush()
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
