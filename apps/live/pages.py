"""The pages that are kept up to date, each a set of sections that are rendered by the same template every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from apps.live import board, feed
from apps.live.sources import State

Read = Callable[[State, int], dict[str, str]]


def _board(state: State, now_ms: int) -> dict[str, str]:
    return board.render(board.read(state, now_ms))


PAGES: Final[dict[str, Read]] = {
    "board": _board,
    "feed": lambda state, now_ms: feed.render(state, now_ms, feed.SIX_HOURS, keep=True),
    "feed-day": lambda state, now_ms: feed.render(state, now_ms, feed.DAY, keep=True),
}
"""The name that a page gives when it opens its socket -> its sections, as HTML by name."""


def render(names: Iterable[str], state: State, now_ms: int) -> dict[str, dict[str, str]]:
    return {name: PAGES[name](state, now_ms) for name in sorted(names)}
