"""Acknowledgements of subscriptions as they may also come: late, in part, not at all, or in other words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workers.exchange.session import Answer, acknowledgement


class AckFault(NamedTuple):
    """How the next acknowledgement goes wrong; `seconds` is the delay."""

    mode: str
    seconds: float
    connections: tuple[int, ...] | None


def spoilt(fault: AckFault, accepted: Sequence[str], refused: Sequence[str]) -> Answer:
    """The answer. What an answer names as neither accepted nor refused is not delivered, except after a drop."""
    if fault.mode == "drop":
        return Answer(accepted, None)
    if fault.mode == "delay":
        return Answer(accepted, acknowledgement(accepted, refused), after_seconds=fault.seconds)
    if fault.mode == "no_id":
        return Answer(accepted, acknowledgement(accepted, refused), with_id=False)
    if fault.mode == "error":
        return Answer((), "system busy", code=1)
    if fault.mode == "partial":
        kept = accepted[: len(accepted) // 2]
        return Answer(kept, acknowledgement(kept, refused)) if kept or refused else Answer((), None)
    if not refused:  # the other modes are wordings of a refusal
        accepted, refused = accepted[:-1], accepted[-1:]
    if fault.mode == "unlisted":
        return Answer((), "Not Subscribed successfully!  Reason\uff1a Blocked! ")
    text = acknowledgement(accepted, refused)
    if fault.mode == "no_blank":
        text = text.replace("].  Reason\uff1a Blocked! ", "].Reason\uff1aBlocked!").replace(
            "]. Reason\uff1a Blocked! ", "].Reason\uff1aBlocked!"
        )
    elif fault.mode == "ascii_colon":
        text = text.replace("\uff1a", ":")
    return Answer(accepted, text)
