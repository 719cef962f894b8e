"""What the pages are told by operations.

`apps.live` and `apps.ops` do not import each other; the settings name the function, as for every other Django hook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string


class Part(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def abnormal(self) -> bool: ...
    @property
    def since_ms(self) -> int | None: ...


class Sentence(Protocol):
    @property
    def line(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def situation(self) -> str: ...
    @property
    def parts(self) -> Sequence[Part]: ...


class State(Protocol):
    """The sentence, the open session with its main account, and the newest report of the ingest (None: none)."""

    @property
    def snapshot(self) -> Any: ...
    @property
    def sentence(self) -> Sentence: ...
    @property
    def session(self) -> Any: ...
    @property
    def account(self) -> Any: ...
    @property
    def report(self) -> Any: ...


def read_state(now_ms: int) -> State:
    return cast("State", import_string(settings.LIVE_STATE_SOURCE)(now_ms))


def read_why(state: State, now_ms: int) -> str:
    """Why nothing has traded, in a sentence; empty if something has."""
    return cast("str", import_string(settings.LIVE_WHY_SOURCE)(state, now_ms))


def read_funnel(state: State, now_ms: int) -> dict[str, Any]:
    return cast("dict[str, Any]", import_string(settings.LIVE_FUNNEL_SOURCE)(state, now_ms))
