"""Which symbols of a connection are silent, what may have been lost by that, and when to ask for them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from apps.engine import timeouts
from workers.ingest.progress import Progress
from workers.ingest.rotation import SECOND_MS
from workers.ingest.symbols import SymbolState

LOOK_SECONDS: Final = 1.0
REASON: Final = "symbol silent"
_ROUNDS: Final = 5  # so many usual rounds missed are no delay on the way any more
_MINUTE_MS: Final = 60 * SECOND_MS

Declare = Callable[[SymbolState, int, int, str], None]  # the symbol, from and to in event time, the reason


class Watch:
    """Belongs to a feed. A symbol that quotes sends a frame in every round, so one without frames is not just quiet.

    The wall says when to become suspicious, event time says whether rounds are missing: frames that were only late come
    with the times of the rounds that were missed, and nothing was lost.
    """

    def __init__(self, declare: Declare, ask: Callable[[str], object]) -> None:
        self.silent: tuple[str, ...] = ()
        self.look_at = 0.0
        self._declare = declare
        self._ask = ask

    def look(self, now: float, followed: Iterable[SymbolState], progress: Progress) -> None:
        """`followed` are accepted; what is not covered yet is asked for again, but has nothing to lose."""
        self.look_at = now + LOOK_SECONDS
        silent = [state for state in followed if now - state.seen_at >= state.habit.threshold]
        for state in silent:
            if state.silent_ms is None and state.since_ms is not None:
                state.silent_ms = state.seen_ms or state.since_ms
                self._missing(state, progress.newest_ms, progress)
            elif state.silent_ms is not None and progress.newest_ms // _MINUTE_MS != state.silent_ms // _MINUTE_MS:
                self._missing(state, progress.newest_ms, progress)
            pause = timeouts.FEED_SYMBOL_RESUBSCRIBE_SECONDS
            if now - state.seen_at >= pause and now - state.asked_at >= pause:
                state.asked_at = now
                self._ask(state.symbol)
        if silent or self.silent:
            self.silent = tuple(state.symbol for state in silent)

    def heard_again(self, state: SymbolState, send_ms: int, progress: Progress) -> None:
        """A silent symbol has sent a frame; to be called before it is taken in."""
        self._missing(state, send_ms, progress)
        state.silent_ms = None

    def _missing(self, state: SymbolState, until_ms: int, progress: Progress) -> None:
        """Declare what is missing up to `until_ms`, if rounds are."""
        from_ms = state.silent_ms
        quotes = state.frame_quote is not None or not state.seen_ms  # without quotes, silence proves nothing
        if from_ms is not None and quotes and until_ms - from_ms > _ROUNDS * progress.round_ms:
            self._declare(state, from_ms, until_ms, REASON)
            state.silent_ms = until_ms
