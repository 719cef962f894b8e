"""`feed backfill`, `feed subscribe`, `feed unsubscribe`: what a person asks for, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import redis
from django.conf import settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apps.bus.feed import DELIVERING, symbol_of
from apps.bus.feed_details import FeedDetails, read_details
from apps.market.models import EpochInstrument, FeedEpoch
from apps.market.services.repairs import BACKFILLED, FAILED, NOT_CLOSED, WAITING, Fate, Opened, fates, reopen
from apps.ops.selectors.feed import client
from apps.ops.services.following import Change
from apps.staff import times

LOOK_SECONDS: Final = 0.25
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
GONE: Final = "let go"
UNKNOWN: Final = "no answer yet"


def looks(seconds: float) -> Iterator[None]:
    """Comes back every quarter of a second until so many have passed, at least once."""
    ends = time.time() + seconds
    yield
    while time.time() < ends:
        time.sleep(LOOK_SECONDS)
        yield


# --- backfill ---------------------------------------------------------------------------------------------------------


def backfill(
    epoch: FeedEpoch, member: EpochInstrument, first: int, last: int, *, wait_seconds: float, console: Console | None
) -> dict[str, Any]:
    """Ask again for what is UNPROVEN, and with `wait_seconds` stay until each minute has an answer."""
    now = times.moment(time.time_ns() // 1_000_000)
    opened = reopen(epoch=epoch.pk, instrument=member.instrument_id, first=first, last=last, now=now)
    found: list[Fate] = fates(epoch=epoch.pk, instrument=member.instrument_id, opened=opened)
    if wait_seconds and opened.attempts:
        found = _wait_for_minutes(epoch, member, opened, wait_seconds, console)
    counts = {name: sum(one.fate == name for one in found) for name in (BACKFILLED, FAILED, WAITING, NOT_CLOSED)}
    return {
        "symbol": member.instrument.symbol,
        "from": times.iso(first * times.MINUTE_MS),
        "to": times.iso(last * times.MINUTE_MS),
        "asked_again": len(opened.attempts),
        "proven_before": opened.proven,
        "backfilled_before": opened.backfilled,
        "without_a_bar": opened.unknown,
        "outcome": counts,
        "minutes": [
            {"minute": times.iso(one.minute * times.MINUTE_MS), "fate": one.fate, "detail": one.words} for one in found
        ],
    }


def _wait_for_minutes(
    epoch: FeedEpoch, member: EpochInstrument, opened: Opened, seconds: float, console: Console | None
) -> list[Fate]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    found: list[Fate] = []
    with Progress(*columns, console=console, disable=console is None, transient=True) as progress:
        task = progress.add_task(f"{member.instrument.symbol}: minutes answered", total=len(opened.attempts))
        for _ in looks(seconds):
            found = fates(epoch=epoch.pk, instrument=member.instrument_id, opened=opened)
            answered = sum(one.fate in (BACKFILLED, FAILED) for one in found)
            progress.update(task, completed=answered)
            if answered == len(found):
                break
    return found


def show_backfill(console: Console, done: dict[str, Any]) -> None:
    if not done["asked_again"]:
        console.print(
            f"{done['symbol']}: nothing is UNPROVEN there ({done['proven_before']} minutes are PROVEN, "
            f"{done['backfilled_before']} BACKFILLED, {done['without_a_bar']} were never closed)",
            markup=False,
        )
        return
    outcome = ", ".join(f"{count} {name}" for name, count in done["outcome"].items() if count)
    console.print(f"{done['symbol']}: {done['asked_again']} minutes are asked for again: {outcome}", markup=False)
    for row in done["minutes"]:
        console.print(f"  {row['minute'][:16].replace('T', ' ')}  {row['fate']}: {row['detail']}", markup=False)


# --- subscribe and unsubscribe ----------------------------------------------------------------------------------------


def answers(epoch: FeedEpoch, symbols: list[str], *, wanted: bool, since_ms: int, seconds: float) -> dict[str, str]:
    """What the exchange answered to a change of what is followed, by symbol; refusals with its own words."""
    judge = _answer if wanted else _departure
    found: dict[str, str] = {}
    for _ in looks(seconds):
        found = {symbol: judge(symbol, details) for details in [_details(epoch, since_ms)] for symbol in symbols}
        if UNKNOWN not in found.values():
            break
    return found


def _details(epoch: FeedEpoch, since_ms: int) -> FeedDetails | None:
    """A report that was written after the wish."""
    try:
        details = read_details(client(settings.REDIS_URL), epoch=epoch.pk)
    except redis.RedisError:
        return None
    return details if details and details.written_ms > since_ms else None


def _answer(symbol: str, details: FeedDetails | None) -> str:
    for row in details.connections if details else []:
        if symbol not in row.symbols:
            continue
        refusal = next((text for channel, text in row.refused.items() if symbol_of(channel) == symbol), None)
        if refusal is not None:
            return f"{REFUSED}: {refusal.strip()}"
        missing = any(symbol_of(channel) == symbol for channel in row.missing)
        return ACCEPTED if row.state in DELIVERING and not missing else UNKNOWN
    return UNKNOWN


def _departure(symbol: str, details: FeedDetails | None) -> str:
    owned = details is None or any(symbol in row.symbols for row in details.connections)
    return UNKNOWN if owned else GONE


def change(
    epoch: FeedEpoch, make: Callable[[int], Change], *, wanted: bool, wait_seconds: float, now_ms: int
) -> dict[str, Any]:
    """Make the change and, if asked to, wait for the exchange's answer."""
    made = make(now_ms)
    asked = list(made.changed) + (list(made.already) if wanted else [])
    told = answers(epoch, asked, wanted=wanted, since_ms=now_ms, seconds=wait_seconds) if wait_seconds else {}
    return {
        "epoch": epoch.pk,
        "wish": "follow" if wanted else "let go",
        "changed": list(made.changed),
        "already": list(made.already),
        "answers": told,
    }


def show_change(console: Console, done: dict[str, Any]) -> None:
    for symbol in done["changed"]:
        told = done["answers"].get(symbol)
        effect = "is followed from now on" if done["wish"] == "follow" else "is not followed any more"
        console.print(f"{symbol} {effect}" + (f": {told}" if told else ""), markup=False)
    for symbol in done["already"]:
        was = "was followed already" if done["wish"] == "follow" else "was not followed"
        told = done["answers"].get(symbol)
        console.print(f"{symbol} {was}" + (f": {told}" if told else ""), markup=False)
