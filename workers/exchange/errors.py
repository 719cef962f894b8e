"""Refusals as the exchange words them: a code, a text, nearly always HTTP status 400."""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

INVALID_SYMBOL: Final = (-1121, "Invalid symbol.")


class ApiError(Exception):
    """Becomes an error document. A few codes travel as text, so `code` may be either."""

    def __init__(self, code: int | str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def json_answer(document: object, status: int = 200) -> web.Response:
    """A document without blanks."""
    text = json.dumps(document, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")
