"""What an answer of the exchange means: its value, a refusal that is certain, or nothing certain at all.

Only what stands in the table is certain, and only in an answer that says so itself (HTTP 4xx). Everything else may
have been carried out: a time-out, 5xx, a page of HTML, an error document in a success, a code that nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from apps.execution.venues.base import VenueUnclear


class Meaning(StrEnum):
    """What a code says of the request that it answers."""

    REFUSED = "refused"  # nothing was done, and nothing will be
    ACCESS = "access"  # the same, and no other request of this key fares better
    DUPLICATE = "duplicate"  # the caller's id was used before: the order, whatever became of it, can be asked for
    NO_ORDER = "no_order"
    NOT_OPEN = "not_open"  # nothing to cancel: unknown, or ended meanwhile
    NO_LISTEN_KEY = "no_listen_key"
    CLOCK = "clock"  # not done, for our clock differs from theirs


_BY_MEANING: Final[Mapping[Meaning, tuple[int, ...]]] = {
    Meaning.REFUSED: (
        -1121, -1128, 26, 10007, 10095, 10096, 10097, 10098, 10101, 10102, 30000, 30001, 30002, 30003, 30004, 30005,
        30010, 30014, 30016, 30018, 30019, 30020, 30021, 30025, 30027, 30028, 30029, 30032, 30041, 30051, 30087, 33333,
        44444, 60005, 70011, 700004, 700005, 700008, 700013,
    ),
    Meaning.ACCESS: (400, 401, 402, 403, 602, 10072, 700001, 700002, 700006, 700007),
    Meaning.DUPLICATE: (-2010,),
    Meaning.NO_ORDER: (-2013,),
    Meaning.NOT_OPEN: (-2011,),
    Meaning.NO_LISTEN_KEY: (730708,),
    Meaning.CLOCK: (10073, 700003),
}  # fmt: skip
MEANINGS: Final[Mapping[str, Meaning]] = {str(code): one for one, codes in _BY_MEANING.items() for code in codes}
NEVER_DONE: Final = frozenset({Meaning.REFUSED, Meaning.ACCESS})
_FINE: Final = ("0", "200")  # some documents carry such a code and are no error
_WORDS_MAX: Final = 120


class Refused(Exception):
    """A certain no. The text is the exchange's code and words."""

    def __init__(self, code: str, words: str, meaning: Meaning) -> None:
        super().__init__(f"{code} {words}".strip())
        self.meaning = meaning


def read_answer(status: int, body: bytes) -> Any:
    """The document of an answer. Raises `Refused` for what is certain, else `VenueUnclear`."""
    if not (200 <= status < 300 or 400 <= status < 500):
        raise VenueUnclear(f"HTTP {status}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise VenueUnclear(f"HTTP {status} without a document") from None
    code = str(document["code"]) if isinstance(document, dict) and "code" in document else None
    if status < 300:
        if code is not None and code not in _FINE:
            raise VenueUnclear(f"HTTP {status} with code {code[:20]}")
        return document
    meaning = MEANINGS.get(code or "")
    if code is None or meaning is None:
        raise VenueUnclear(f"HTTP {status} with code {str(code)[:20]}")
    raise Refused(code, _one_line(document.get("msg")), meaning)


def _one_line(words: object) -> str:
    return " ".join(str(words or "").split())[:_WORDS_MAX]
