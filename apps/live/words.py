"""Codes in words, as the live page says them."""

from __future__ import annotations

from typing import Final

_EXITS: Final = {"stop_loss": "stop loss", "take_profit": "take profit", "max_holding": "holding time over"}


def exit_words(reason: str) -> str:
    return _EXITS.get(reason, reason.replace("_", " "))
