"""Who sent a request and when: the signature over exactly what was sent, and the rule about its time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from workers.exchange.errors import ApiError
from workers.exchange.private import refusals

RECV_WINDOW_MS: Final = 5_000
RECV_WINDOW_MAX_MS: Final = 60_000
AHEAD_MS: Final = 1_000
_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")
_DIGITS_MAX: Final = 15


class SignedRequest(NamedTuple):
    """`payload` is what the signature stands for; `values` are the parameters, the query before the body."""

    payload: str
    signature: str
    values: Mapping[str, str]


class Clock(NamedTuple):
    """The exchange's time as a request meets it. Windows of milliseconds last `speed` times as long in event time."""

    now_ms: int
    running: bool = True
    speed: float = 1.0


def signature_of(payload: str, secret: str) -> str:
    """Hexadecimal HMAC-SHA256 in small letters."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def read_request(query: str, body: str) -> SignedRequest:
    """Query and body as they came, the signature taken out; the two are joined without a separator."""
    signature = ""
    rests = []
    for part in (body, query):  # the query's signature wins like any other of its values
        items = part.split("&")
        signature = next((item[10:] for item in items if item.startswith("signature=")), signature)
        rests.append("&".join(item for item in items if not item.startswith("signature=")))
    body_rest, query_rest = rests
    values = dict(parse_qsl(body_rest, keep_blank_values=True)) | dict(parse_qsl(query_rest, keep_blank_values=True))
    return SignedRequest(query_rest + body_rest, signature, values)


def check_signature(request: SignedRequest, secret: str) -> None:
    """Raises ApiError. Escapes count as written in capitals: one written otherwise was signed over another text."""
    if not request.signature:
        raise ApiError(*refusals.SIGNATURE_MISSING)
    payload = _ESCAPE.sub(lambda found: found[0].upper(), request.payload)
    if not hmac.compare_digest(signature_of(payload, secret).encode(), request.signature.encode()):
        raise ApiError(*refusals.SIGNATURE_WRONG)


def check_time(values: Mapping[str, str], clock: Clock) -> None:
    """Accepted if timestamp < server time + 1,000 and server time - timestamp <= recvWindow; raises ApiError.

    While event time stands, nobody can know that it does: then a timestamp may run ahead.
    """
    window_ms = _whole(values.get("recvWindow", str(RECV_WINDOW_MS)))
    if window_ms is None:
        raise refusals.wrong("recvWindow")
    if window_ms > RECV_WINDOW_MAX_MS:
        raise ApiError(*refusals.WINDOW_TOO_LONG)
    timestamp_ms = _whole(values.get("timestamp", ""))
    if timestamp_ms is None:
        raise ApiError(*refusals.TIMESTAMP_MALFORMED)
    stretch = max(clock.speed, 1.0)
    ahead = clock.running and timestamp_ms >= clock.now_ms + AHEAD_MS * stretch
    if ahead or clock.now_ms - timestamp_ms > window_ms * stretch:
        raise ApiError(*refusals.OUTSIDE_WINDOW)


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None
