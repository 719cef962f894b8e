"""What a person typed, checked. Wrong input is one line that says what it should look like."""

from __future__ import annotations

import getpass
import re
from datetime import UTC, datetime
from typing import Final

from apps.market.models import EpochInstrument, FeedEpoch
from apps.market.selectors import current_epoch
from apps.staff import times

_TIME: Final = re.compile(r"(?:([0-9]{4}-[0-9]{2}-[0-9]{2})[T ])?([0-9]{1,2}):([0-9]{2})(?:Z| UTC)?")
DAY_MINUTES: Final = 1440
REASON_MAX: Final = 200


class BadInput(Exception):
    """The command cannot do this; one line says why. `code`: the exit code."""

    def __init__(self, message: str, *, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def epoch_or_refuse() -> FeedEpoch:
    epoch = current_epoch()
    if epoch is None:
        raise BadInput("no feed is running: start one with `make demo` or `make up`")
    return epoch


def minute_of(text: str, *, day_of: int) -> int:
    """The minute since 1970 of `2026-11-21T06:40` or of `06:40`, which means the day of the minute `day_of`."""
    found = _TIME.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError(text)
        date = found[1] or f"{times.moment(day_of * times.MINUTE_MS):%Y-%m-%d}"
        when = datetime.fromisoformat(f"{date}T{int(found[2]):02}:{found[3]}").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInput(f"{text!r} is not a time such as 2026-11-21T06:40 or 06:40 (UTC)") from error
    return times.to_ms(when) // times.MINUTE_MS


def span_of(first: str, last: str, *, day_of: int, minutes_max: int) -> tuple[int, int]:
    """Two times as minutes, both included. Raises `BadInput` for one that goes backwards or is too long."""
    begin, end = minute_of(first, day_of=day_of), minute_of(last, day_of=day_of)
    if end < begin:
        raise BadInput(f"{last} lies before {first}")
    if end - begin >= minutes_max:
        raise BadInput(f"{end - begin + 1} minutes are more than {minutes_max} at once: ask for less")
    return begin, end


def members_of(epoch: FeedEpoch, symbols: list[str]) -> list[EpochInstrument]:
    """The named symbols of an epoch, all of them if none is named, in symbol order."""
    rows = EpochInstrument.objects.filter(epoch=epoch).select_related("instrument").order_by("instrument__symbol")
    known = {row.instrument.symbol: row for row in rows}
    for symbol in symbols:
        if symbol not in known:
            hint = f": write {symbol.upper()}" if symbol.upper() in known else ""
            raise BadInput(f"{symbol!r} was never followed here{hint}")
    return [known[symbol] for symbol in dict.fromkeys(symbols)] if symbols else list(known.values())


def person(name: str) -> str:
    try:
        return name.strip()[:150] or getpass.getuser()
    except (KeyError, OSError) as error:
        raise BadInput("your user has no name here: say who decides with --by") from error


def reason(text: str) -> str:
    words = " ".join(text.split())
    if not words or len(words) > REASON_MAX:
        raise BadInput(f"--reason must have 1 to {REASON_MAX} characters")
    return words
