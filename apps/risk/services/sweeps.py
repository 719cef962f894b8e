"""What the steward calls: signals that still have no decision are brought up again."""

from __future__ import annotations

import logging
from typing import Final

from apps.outbox.services import BROKER_ERRORS, Sender, ring
from apps.portfolio.selectors import current_session
from apps.risk.selectors import undecided_signals

log = logging.getLogger(__name__)

OLDER_THAN_MS: Final = 1_000


def ring_undecided(*, now_ms: int, older_than_ms: int = OLDER_THAN_MS, sender: Sender = ring) -> int:
    """Ring for signals that were missed or held. Returns for how many; the rest waits for the next sweep."""
    session = current_session()
    if session is None:
        return 0
    waiting = undecided_signals(session=session, now_ms=now_ms, older_than_ms=older_than_ms)
    for number, signal_id in enumerate(waiting):
        try:
            sender("SignalRaised", {"signal_id": signal_id})
        except BROKER_ERRORS as error:
            log.warning("%d signals wait for the broker: %s", len(waiting) - number, error)
            return number
    return len(waiting)
