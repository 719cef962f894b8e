"""Codes in words, as the live page says them."""

from __future__ import annotations

from typing import Final

_EXITS: Final = {
    "stop_loss": "stop loss",
    "trailing_stop": "trailing stop",
    "take_profit": "take profit",
    "max_holding": "holding time over",
    "exit_signal": "its strategy said so",
    "flatten": "everything was to be sold",
}


def exit_words(reason: str) -> str:
    return _EXITS.get(reason, reason.replace("_", " "))


_CLOSED_BY: Final = {"us": "closed by us", "exchange": "closed by the exchange", "network": "cut by the network"}


def closed_by_words(who: str) -> str:
    return _CLOSED_BY.get(who, who)
