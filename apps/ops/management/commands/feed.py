"""`manage.py feed status|coverage|gaps|backfill|subscribe|unsubscribe`: look at the feed, repair it, change it."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, Final, NoReturn

from rich.console import Console

from apps.market.coverage import newest_minute
from apps.market.rest import RestError
from apps.market.services.repairs import MINUTES_MAX
from apps.market.services.screener import RuleRefused
from apps.ops.feed import inputs, ledger, status, wishes
from apps.ops.feed.inputs import BadInput
from apps.ops.services.exchange import exchange_rest
from apps.ops.services.following import FollowRefused, subscribe, unsubscribe
from apps.staff.commands import OneLineCommand, OneLineParser

COVERAGE_MINUTES: Final = 60
COVERAGE_MINUTES_MAX: Final = 31 * 1440
GAPS_SHOWN: Final = 50
WIDTH: Final = 200  # of what goes into a file or another program
HELP: Final = {
    "status": "connections, lease, ledger and what is wrong; exit code 1 if something is",
    "coverage": "how many minutes are PROVEN, BACKFILLED, UNPROVEN, and a strip of them per symbol",
    "gaps": "the newest interruptions and what became of their repair",
    "backfill": "ask the exchange again for UNPROVEN minutes, given-up ones too",
    "subscribe": "follow symbols from now on, without a reconnect",
    "unsubscribe": "follow symbols no longer, without a reconnect",
}


class Command(OneLineCommand):
    help = "Look at the feed, ask for missing minutes, follow and let go symbols."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="|".join(HELP), parser_class=OneLineParser
        )
        parts = {name: actions.add_parser(name, help=words, description=words) for name, words in HELP.items()}
        for part in parts.values():
            part.add_argument("--json", action="store_true", help="one JSON object")
        parts["coverage"].add_argument("symbols", nargs="*", metavar="SYMBOL", help="all symbols if none is named")
        parts["coverage"].add_argument("--from", dest="first", metavar="TIME", help="2026-11-21T06:40 or 06:40, UTC")
        parts["coverage"].add_argument(
            "--to", dest="last", metavar="TIME", help="the newest closed minute if not given"
        )
        parts["gaps"].add_argument("--open", action="store_true", help="only those that are not closed")
        parts["gaps"].add_argument("--limit", type=int, default=GAPS_SHOWN)
        parts["backfill"].add_argument("symbol", metavar="SYMBOL")
        parts["backfill"].add_argument("first", metavar="FROM", help="2026-11-21T06:40 or 06:40, UTC")
        parts["backfill"].add_argument("last", metavar="TO", help="included")
        for name in ("subscribe", "unsubscribe"):
            parts[name].add_argument("symbols", nargs="+", metavar="SYMBOL")
            parts[name].add_argument("--reason", required=True, help="one line, kept with the change")
            parts[name].add_argument("--by", default="", help="who decides this (default: your user name)")
        for name, seconds in (("backfill", 120), ("subscribe", 30), ("unsubscribe", 30)):
            parts[name].add_argument("--wait", action="store_true", help="until each has an answer")
            parts[name].add_argument("--seconds", type=float, default=seconds, help="how long to wait at most")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        act: dict[str, Callable[[dict[str, Any]], int]] = {
            "status": self._status,
            "coverage": self._coverage,
            "gaps": self._gaps,
            "backfill": self._backfill,
            "subscribe": lambda given: self._follow(given, wanted=True),
            "unsubscribe": lambda given: self._follow(given, wanted=False),
        }
        try:
            code = act[action](options)
        except BadInput as error:
            _refuse(str(error), error.code)
        except (FollowRefused, RuleRefused) as error:
            _refuse(str(error), 2)
        except RestError as error:
            _refuse(f"the exchange does not answer as it should: {error}", 1)
        if code:
            sys.exit(code)

    def _status(self, options: dict[str, Any]) -> int:
        found = status.read_status(inputs.epoch_or_refuse(), _now_ms())
        self._say(options, found, lambda console: status.show_status(console, found))
        return 1 if found["problems"] else 0

    def _coverage(self, options: dict[str, Any]) -> int:
        epoch = inputs.epoch_or_refuse()
        members = inputs.members_of(epoch, options["symbols"])
        newest = newest_minute(epoch_id=epoch.pk)
        if newest is None:
            raise BadInput("no minute has been closed yet", code=1)
        last = inputs.minute_of(options["last"], day_of=newest) if options["last"] else newest
        first = inputs.minute_of(options["first"], day_of=last) if options["first"] else last - COVERAGE_MINUTES + 1
        if not 0 <= last - first < COVERAGE_MINUTES_MAX:
            raise BadInput(f"--from must lie before --to, by less than {COVERAGE_MINUTES_MAX // 1440} days")
        found = ledger.read_coverage(epoch, members, first, last)
        self._say(options, found, lambda console: ledger.show_coverage(console, found))
        return 0

    def _gaps(self, options: dict[str, Any]) -> int:
        if not 1 <= options["limit"] <= 10_000:
            raise BadInput("--limit must be from 1 to 10000")
        found = ledger.read_gaps(inputs.epoch_or_refuse(), open_only=options["open"], limit=options["limit"])
        self._say(options, found, lambda console: ledger.show_gaps(console, found))
        return 0

    def _backfill(self, options: dict[str, Any]) -> int:
        epoch = inputs.epoch_or_refuse()
        member = inputs.members_of(epoch, [options["symbol"]])[0]
        if not member.followed:
            raise BadInput(
                f"{options['symbol']} is not followed now: subscribe it first, its minutes are repaired then"
            )
        newest = newest_minute(epoch_id=epoch.pk) or 0
        first, last = inputs.span_of(options["first"], options["last"], day_of=newest, minutes_max=MINUTES_MAX)
        wait = options["seconds"] if options["wait"] else 0
        console = None if options["json"] else Console(stderr=True)
        done = wishes.backfill(epoch, member, first, last, wait_seconds=wait, console=console)
        self._say(options, done, lambda console: wishes.show_backfill(console, done))
        return 1 if wait and done["outcome"]["backfilled"] < done["asked_again"] else 0

    def _follow(self, options: dict[str, Any], *, wanted: bool) -> int:
        epoch = inputs.epoch_or_refuse()
        said: dict[str, Any] = {
            "epoch": epoch,
            "symbols": list(dict.fromkeys(options["symbols"])),
            "by": inputs.person(options["by"]),
            "reason": inputs.reason(options["reason"]),
        }
        make = (
            (lambda now_ms: subscribe(**said, rest=exchange_rest(), now_ms=now_ms))
            if wanted
            else (lambda now_ms: unsubscribe(**said, now_ms=now_ms))
        )
        wait = options["seconds"] if options["wait"] else 0
        done = wishes.change(epoch, make, wanted=wanted, wait_seconds=wait, now_ms=_now_ms())
        self._say(options, done, lambda console: wishes.show_change(console, done))
        good = (wishes.ACCEPTED, wishes.GONE)
        return 1 if any(told not in good for told in done["answers"].values()) else 0

    def _say(self, options: dict[str, Any], found: dict[str, Any], show: Callable[[Console], None]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(found))
        else:
            width = None if self.stdout.isatty() else WIDTH
            show(Console(file=self.stdout, highlight=False, soft_wrap=True, width=width))  # type: ignore[arg-type]


def _refuse(words: str, code: int) -> NoReturn:
    print(f"cdb: feed: {words}", file=sys.stderr)
    sys.exit(code)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
