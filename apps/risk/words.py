"""What a change of the trading state means, in the words that the command and the pages share."""

from __future__ import annotations

from typing import Final

from apps.risk.models import TradingState
from apps.risk.services.flattening import Flattened
from apps.risk.services.states import Changed

HALT_STOPS_EXITS: Final = (
    "HALTED sends nothing any more, exits neither: open positions have no stop, no target and no time limit until "
    "somebody reduces or resumes."
)


def meaning(state: TradingState, done: Changed) -> str:
    """What a change of state means now."""
    positions, brought_back = done.open_positions, done.exits_brought_back
    held = f"{positions} open position{'' if positions == 1 else 's'}"
    back = f" {brought_back} denied while halted will be raised again." if brought_back else ""
    if not done.all_left:
        back += " An order that was just leaving has not been answered yet: look at the orders."
    if state == TradingState.HALTED:
        until = "without stop, target or time limit until you act"
        return f"Nothing is sent any more, exits neither: {held} {until}.{back}"
    if state == TradingState.REDUCING:
        return f"Nothing is opened any more; exits go on for {held}.{back}"
    return f"Trading goes on within the limits, with {held}.{back}"


def sold_words(done: Flattened) -> str:
    """What a flatten did."""
    count, rest = len(done.raised), done.on_the_way
    words = f"{done.change.from_state} -> {done.change.to_state}: nothing is opened any more. " if done.change else ""
    words += f"{count} position{'' if count == 1 else 's'} will be sold"
    return words + (f"; {rest} already on the way." if rest else ".")
