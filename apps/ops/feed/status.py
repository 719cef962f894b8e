"""`feed status`: who receives what, how old it is, what is refused, and how far the ledger has come."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import redis
from django.conf import settings
from rich.console import Console
from rich.table import Table

from apps.bus.feed import DELIVERING, symbol_of
from apps.bus.feed_details import ConnectionDetails, FeedDetails, read_details
from apps.market.coverage import gap_counts, minute_counts, newest_minute
from apps.market.feed_history import last_choice, lease
from apps.market.models import EpochInstrument, FeedEpoch
from apps.ops.health import drain_lag_ms
from apps.ops.selectors.feed import client
from apps.staff import times

LEDGER_MINUTES: Final = 60
REPORT_AGE_MAX_S: Final = 5.0
LAG_MAX_S: Final = 10.0


def read_status(epoch: FeedEpoch, now_ms: int) -> dict[str, Any]:
    """Everything as of `now_ms`. Ages and lags in seconds, None where nothing is known."""
    try:
        details = read_details(client(settings.REDIS_URL), epoch=epoch.pk)
        answered = True
    except redis.RedisError:
        details, answered = None, False
    lag_ms = drain_lag_ms(epoch.pk, now_ms)
    minute = newest_minute(epoch_id=epoch.pk)
    members = EpochInstrument.objects.filter(epoch=epoch)
    status = {
        "epoch": epoch.pk,
        "feed": f"{epoch.kind}: {epoch.description}",
        "as_of": times.iso(now_ms),
        "redis_answers": answered,
        "report_age_s": _age(details.written_ms if details else None, now_ms),
        "symbols": {"followed": members.filter(followed=True).count(), "known": members.count()},
        "connections": [_connection(row, now_ms) for row in details.connections] if details else [],
        "refused": _refused(details),
        "silent": sorted({symbol for row in details.connections for symbol in row.silent}) if details else [],
        "lease": _lease(epoch.pk),
        "standby": details.standby if details else None,
        "ring": _fields(details.ring if details else None, ("trades", "oldest_ms", "overflowed")),
        "repairs": _fields(details.repairs if details else None, ("waiting", "filled", "failed")),
        "budget": msgspec.to_builtins(details.budget) if details and details.budget else {},
        "drain_lag_s": None if lag_ms is None else lag_ms / 1000,
        "newest_minute": None if minute is None else times.iso(minute * times.MINUTE_MS),
        "ledger": minute_counts(epoch_id=epoch.pk, minutes=LEDGER_MINUTES),
        "gaps": gap_counts(epoch_id=epoch.pk),
        "choice": _choice(epoch.pk),
    }
    return status | {"problems": _problems(status)}


def _connection(row: ConnectionDetails, now_ms: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "since_s": _age(row.since_ms, now_ms),
        "age_s": _age(row.opened_ms, now_ms),
        "frame_age_s": _age(row.last_frame_ms, now_ms),
        "pong_age_s": _age(row.last_pong_ms, now_ms),
        "blocked_for_s": None if row.blocked_until_ms is None else max(row.blocked_until_ms - now_ms, 0) / 1000,
        "symbols": len(row.symbols),
        "subscriptions": row.subscriptions,
        "refused": len(row.refused),
        "missing": len(row.missing),
        "reconnects": row.reconnects,
        "rotations": row.rotations,
        "bytes_in": row.bytes_in,
    }


def _refused(details: FeedDetails | None) -> dict[str, str]:
    """The exchange's words by symbol."""
    rows = details.connections if details else []
    return {symbol_of(channel): text for row in rows for channel, text in sorted(row.refused.items())}


def _lease(epoch: int) -> dict[str, Any] | None:
    found = lease(epoch_id=epoch)
    if found is None:
        return None
    age_s = None if found.age_ms is None else found.age_ms / 1000
    return {"token": found.token, "holder": found.holder, "held": found.held, "renewed_s_ago": age_s}


def _fields(row: Any, names: tuple[str, ...]) -> dict[str, Any] | None:
    return None if row is None else {name: getattr(row, name) for name in names}


def _choice(epoch: int) -> dict[str, Any] | None:
    run = last_choice(epoch_id=epoch)
    if run is None:
        return None
    return {
        "rule": str(run.rule),
        "at": times.iso(times.to_ms(run.at)),
        "added": run.added,
        "removed": run.removed,
        "error": run.error,
    }


def _age(ms: int | None, now_ms: int) -> float | None:
    return None if ms is None else max(now_ms - ms, 0) / 1000


def _problems(status: dict[str, Any]) -> list[str]:
    """What keeps data from flowing, in words; none: the exit code is 0."""
    if not status["redis_answers"]:
        return ["Redis does not answer, so what the ingest does is not known"]
    age = status["report_age_s"]
    if age is None or age > REPORT_AGE_MAX_S:
        return ["the ingest has not reported" + ("" if age is None else f" for {times.duration(int(age * 1000))}")]
    found = [
        f"{row['name']} is {row['state']}" + (f": {row['reason']}" if row["reason"] else "")
        for row in status["connections"]
        if row["state"] not in DELIVERING
    ]
    found += [f"the exchange refuses {symbol}: {text}" for symbol, text in status["refused"].items()]
    if (status["drain_lag_s"] or 0) > LAG_MAX_S:
        found.append(f"the drain is {times.duration(int(status['drain_lag_s'] * 1000))} behind")
    if status["choice"] and status["choice"]["error"]:
        found.append(f"the symbols were not chosen anew: {status['choice']['error']}")
    return found


# --- for people -------------------------------------------------------------------------------------------------------


def show_status(console: Console, status: dict[str, Any]) -> None:
    counts = status["symbols"]
    console.print(f"epoch {status['epoch']}, {status['feed']}, {counts['followed']} symbols followed", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("connection")
    table.add_column("state")
    for column in ("age", "frame", "pong", "symbols", "accepted", "refused", "missing", "reconnects", "rotations"):
        table.add_column(column, justify="right")
    for row in status["connections"]:
        ages = [_words(row[name]) for name in ("age_s", "frame_age_s", "pong_age_s")]
        names = ("symbols", "subscriptions", "refused", "missing", "reconnects", "rotations")
        table.add_row(row["name"], row["state"], *ages, *(str(row[name]) for name in names))
    if status["connections"]:
        console.print(table)
    for line in _lines(status):
        console.print(line, markup=False)
    for problem in status["problems"]:
        console.print(f"▲ {problem}", style="bold", markup=False)


def _lines(status: dict[str, Any]) -> list[str]:
    lease, ledger, gaps = status["lease"], status["ledger"], status["gaps"]
    held = "not taken"
    if lease:
        renewed = f", renewed {_words(lease['renewed_s_ago'])} ago" if lease["held"] else ", not held now"
        held = f"token {lease['token']}, {lease['holder'] or 'nobody'}{renewed}"
    minutes = ", ".join(f"{count} {name.upper()}" for name, count in ledger.items()) or "nothing yet"
    lines = [
        f"lease      {held}; standby {_yes(status['standby'])}",
        f"drain      {_words(status['drain_lag_s'])} behind, newest closed minute {status['newest_minute'] or 'none'}",
        f"ledger     last {LEDGER_MINUTES} min: {minutes}",
        f"gaps       {', '.join(f'{count} {name}' for name, count in gaps.items())}",
    ]
    lines += [
        f"{name:<10} {', '.join(f'{key} {value}' for key, value in status[name].items())}"
        for name in ("repairs", "ring", "budget")
        if status[name]
    ]
    if status["silent"]:
        lines.append(f"silent     {', '.join(status['silent'])}")
    if status["choice"]:
        lines.append(f"chosen     by {status['choice']['rule']} at {status['choice']['at']}")
    return lines


def _words(seconds: float | None) -> str:
    return "—" if seconds is None else times.duration(int(seconds * 1000))


def _yes(known: bool | None) -> str:
    return "not known" if known is None else "waiting" if known else "none"
