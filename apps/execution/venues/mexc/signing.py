"""The signature of a request: over the query exactly as it is sent. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

RECV_WINDOW_MS: Final = 5_000  # never left out: without it requests were refused although their time was right


def query_of(values: Mapping[str, str | int]) -> str:
    """`name=value` pairs in the order given, escapes in capitals, a blank as %20."""
    return urlencode(values, quote_via=quote, safe="")


def signature_of(payload: str, secret: str) -> str:
    """HMAC-SHA256 of query and body, joined without a separator; hexadecimal in small letters."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
