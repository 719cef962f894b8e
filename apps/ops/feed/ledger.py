"""`feed coverage` and `feed gaps`: what of the received minutes is proven, and what is missing and why."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, Subquery
from rich.console import Console
from rich.table import Table
from rich.text import Text

from apps.market.coverage import BACKFILLED, CHECKED, NOTHING, PROVISIONAL, UNPROVEN, picture
from apps.market.models import Bar, Coverage, EpochInstrument, FeedEpoch, Gap
from apps.staff import numbers, times

STRIP_WIDTH: Final = 60
BUCKETS: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440)
MARKS: Final = {CHECKED: "#", PROVISIONAL: "+", BACKFILLED: "b", UNPROVEN: "!", NOTHING: "."}
STYLES: Final = {"b": "cyan", "!": "bold red", ".": "dim"}
KINDS: Final = (CHECKED, PROVISIONAL, BACKFILLED, UNPROVEN)
LEGEND: Final = "# PROVEN and checked, + PROVEN (provisional), b BACKFILLED, ! UNPROVEN, . no minute closed"


def read_coverage(epoch: FeedEpoch, members: list[EpochInstrument], first: int, last: int) -> dict[str, Any]:
    """Minutes of each kind between the two (inclusive) per symbol, the reasons of the UNPROVEN, and a strip."""
    bucket = next((size for size in BUCKETS if (last - first + 1) / size <= STRIP_WIDTH), BUCKETS[-1])
    drawn = picture(
        epoch_id=epoch.pk, last_minute=last, minutes=-(-(last - first + 1) // bucket) * bucket, bucket=bucket
    )
    strips = {row.instrument_id: "".join(MARKS[cell.kind] for cell in row.cells) for row in drawn.rows}
    counts = _counts(epoch, members, first, last)
    reasons = _reasons(epoch, members, first, last)
    rows: list[dict[str, Any]] = [
        {
            "symbol": member.instrument.symbol,
            "followed": member.followed,
            **dict(zip(KINDS, counts.get(member.instrument_id, (0, 0, 0, 0)), strict=True)),
            "reasons": reasons.get(member.instrument_id, {}),
            "strip": strips.get(member.instrument_id, ""),
        }
        for member in members
    ]
    total = {kind: sum(row[kind] for row in rows) for kind in KINDS}
    everything = sum(total.values())
    return {
        "epoch": epoch.pk,
        "from": times.iso(first * times.MINUTE_MS),
        "to": times.iso(last * times.MINUTE_MS),
        "strip_minutes": bucket,
        "strip_from": times.iso(drawn.first_minute * times.MINUTE_MS),
        "symbols": rows,
        "total": {**total, "minutes": everything},
        "shares": {kind: round(count / everything, 6) if everything else None for kind, count in total.items()},
    }


def _counts(
    epoch: FeedEpoch, members: list[EpochInstrument], first: int, last: int
) -> dict[int, tuple[int, int, int, int]]:
    """By instrument: minutes checked, provisional, backfilled, unproven."""
    where: dict[str, Any] = {
        "epoch": epoch, "instrument__in": [row.instrument_id for row in members], "minute__gte": first,
        "minute__lte": last,
    }  # fmt: skip
    same = {name: OuterRef(name) for name in ("epoch_id", "instrument_id")}
    bars = (
        Bar.objects.filter(**where)
        .annotate(
            marked=Exists(Coverage.objects.filter(**same, minute=OuterRef("minute"))),
            swept=Subquery(EpochInstrument.objects.filter(**same).values("swept_minute")[:1]),
        )
        .filter(marked=False)
        .order_by()
    )
    checked = Count("id", filter=Q(minute__lte=F("swept")))
    proven = {
        pk: (n, all_ - n) for pk, n, all_ in bars.values_list("instrument_id").annotate(n=checked, all=Count("id"))
    }
    rows = Coverage.objects.filter(**where).order_by().values_list("instrument_id")
    marks = {
        pk: (filled, lost)
        for pk, filled, lost in rows.annotate(
            filled=Count("id", filter=Q(status=BACKFILLED)), lost=Count("id", filter=Q(status=UNPROVEN))
        )
    }
    return {pk: (*proven.get(pk, (0, 0)), *marks.get(pk, (0, 0))) for pk in {*proven, *marks}}


def _reasons(epoch: FeedEpoch, members: list[EpochInstrument], first: int, last: int) -> dict[int, dict[str, int]]:
    """By instrument: how many minutes are UNPROVEN for which reason, the most frequent first."""
    rows = Coverage.objects.filter(
        epoch=epoch,
        instrument__in=[row.instrument_id for row in members],
        minute__gte=first,
        minute__lte=last,
        status=UNPROVEN,
    )
    found: dict[int, dict[str, int]] = {}
    counted = rows.order_by().values_list("instrument_id", "reason").annotate(n=Count("id")).order_by("-n", "reason")
    for instrument, reason, count in counted:
        found.setdefault(instrument, {})[reason] = count
    return found


def show_coverage(console: Console, found: dict[str, Any]) -> None:
    width = found["strip_minutes"]
    each = "a minute" if width == 1 else f"{width} minutes, the worst of them"
    console.print(f"{_time(found['from'])} to {_time(found['to'])}; a character is {each}", markup=False)
    console.print(LEGEND, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("symbol", *KINDS):
        table.add_column(column, justify="left" if column == "symbol" else "right", no_wrap=True)
    table.add_column(f"from {_time(found['strip_from'])}", no_wrap=True)
    for row in found["symbols"]:
        name = row["symbol"] + ("" if row["followed"] else " (not followed)")
        table.add_row(name, *(numbers.count(row[kind]) for kind in KINDS), _painted(row["strip"]))
    console.print(table)
    shares = found["shares"]
    if found["total"]["minutes"]:
        words = ", ".join(f"{shares[kind]:.2%} {kind}" for kind in KINDS)
        console.print(f"{numbers.count(found['total']['minutes'])} minutes: {words}", markup=False)
    reasons: Counter[str] = Counter()
    for row in found["symbols"]:
        reasons.update(row["reasons"])
    for reason, count in reasons.most_common(10):
        console.print(f"  UNPROVEN {numbers.count(count)}: {reason}", markup=False)


def _painted(strip: str) -> Text:
    text = Text(strip)
    for mark, style in STYLES.items():
        text.highlight_regex(f"[{mark}]+", style)
    return text


# --- gaps -------------------------------------------------------------------------------------------------------------


def read_gaps(epoch: FeedEpoch, *, open_only: bool, limit: int) -> dict[str, Any]:
    """The newest gaps, with the state of their repair."""
    rows = Gap.objects.filter(epoch=epoch)
    counts = {**dict.fromkeys(Gap.Status.values, 0), **dict(rows.values_list("status").annotate(n=Count("id")))}
    if open_only:
        rows = rows.filter(status=Gap.Status.OPEN)
    left = Q(minutes__status=Coverage.Status.UNPROVEN)
    shown = rows.select_related("instrument").annotate(
        unproven=Count("minutes", filter=left),
        attempts=Max("minutes__attempts", filter=left),
        next_at=Min("minutes__next_attempt_at", filter=left),
        detail=Max("minutes__detail", filter=left),
    )
    return {"epoch": epoch.pk, "counts": counts, "gaps": [_gap(row) for row in shown.order_by("-pk")[:limit]]}


def _gap(row: Any) -> dict[str, Any]:
    return {
        "id": row.pk,
        "symbol": row.instrument.symbol,
        "from": times.iso(row.first_minute * times.MINUTE_MS),
        "to": times.iso(row.last_minute * times.MINUTE_MS),
        "minutes": row.last_minute - row.first_minute + 1,
        "unproven": row.unproven,
        "reason": row.reason,
        "status": row.status,
        "rows": row.rows,
        "attempts": row.attempts or 0,
        "next_attempt_at": None if row.next_at is None else times.iso(times.to_ms(row.next_at)),
        "detail": row.detail or "",
    }


def show_gaps(console: Console, found: dict[str, Any]) -> None:
    console.print(", ".join(f"{count} {status}" for status, count in found["counts"].items()), markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("id", "symbol", "from", "minutes", "left", "status", "reason", "repair"):
        table.add_column(column, justify="right" if column in ("id", "minutes", "left") else "left")
    for gap in found["gaps"]:
        cells = (gap["id"], gap["symbol"], _time(gap["from"]), gap["minutes"], gap["unproven"], gap["status"])
        table.add_row(*map(str, cells), Text(gap["reason"]), Text(_repair(gap)))
    if found["gaps"]:
        console.print(table)


def _repair(gap: dict[str, Any]) -> str:
    """What was tried, in a few words."""
    if not gap["unproven"]:
        return f"{gap['rows']} rows from REST"
    words = [f"{gap['attempts']} tried" if gap["attempts"] else "not tried yet"]
    if gap["detail"]:
        words.append(gap["detail"])
    words.append(f"again at {gap['next_attempt_at'][11:19]}" if gap["next_attempt_at"] else "given up")
    return ", ".join(words)


def _time(iso: str) -> str:
    """`2026-11-21 06:40`"""
    return iso[:16].replace("T", " ")
