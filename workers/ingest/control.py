"""The exchange's text frames. `code` is 0 for yes and for no, so only the words of `msg` tell them apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

_REFUSED: Final = re.compile(r"Not Subscribed successfully!\s*\[(.*?)\]", re.IGNORECASE | re.DOTALL)
_REASON: Final = re.compile(r"Reason\s*[:\uff1a]?\s*(.*?)\s*$", re.IGNORECASE | re.DOTALL)
_SEPARATORS: Final = re.compile(r"[\s,\[\]]+")
_TEXT_LENGTH_MAX: Final = 200


class Message(msgspec.Struct, frozen=True):
    """A control frame as it came; what else it holds is ignored."""

    msg: str
    id: int = 0
    code: int = 0

    @property
    def is_pong(self) -> bool:
        return self.msg.strip().upper() == "PONG"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a control frame says about the channels that were asked for; those it does not name stay open."""

    accepted: frozenset[str]
    refused: dict[str, str]  # channel -> reason in the exchange's words

    @property
    def says_nothing(self) -> bool:
        return not self.accepted and not self.refused


def parse(payload: bytes) -> Message | None:
    """The control frame, or None if it is not one (the exchange also sends bare words)."""
    try:
        return msgspec.json.decode(payload, type=Message)
    except msgspec.MsgspecError:
        return None


def judge(message: Message, requested: Iterable[str]) -> Answer:
    """Which of the `requested` channels the message accepts and which it refuses."""
    channels = frozenset(requested)
    if message.code != 0:
        reason = f"code {message.code}: {message.msg}"[:_TEXT_LENGTH_MAX]
        return Answer(frozenset(), dict.fromkeys(channels, reason))
    refused = channels & {name for part in _REFUSED.findall(message.msg) for name in _names(part)}
    accepted = (channels & _names(message.msg)) - refused
    return Answer(accepted, dict.fromkeys(refused, _reason(message.msg)))


def _names(text: str) -> set[str]:
    """Whole channel names: one symbol may be the beginning of another."""
    return {part.rstrip(".") for part in _SEPARATORS.split(text)}


def _reason(text: str) -> str:
    match = _REASON.search(text)
    return (match[1] if match and match[1] else text.strip())[:_TEXT_LENGTH_MAX]
