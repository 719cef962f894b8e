"""The exit search of a simulation's positions, slice by slice of the tape.

A search may end in a slice and begin again in it, when the exit has failed; so `DeskPosition.watch` stays as of the
slice's beginning until the next slice comes.
"""

from __future__ import annotations

from collections.abc import Iterable

from apps.engine.desk.account import DeskPosition
from apps.engine.exit_kernel import CALLED, ENDLESS, NOT_FOUND, Watch, find_exit
from apps.engine.tapes import Tape


class Watches:
    """What has been searched of the current slice, by position."""

    def __init__(self) -> None:
        self._after: dict[int, Watch] = {}  # at the slice's end, of those whose search came so far

    def search(self, position: DeskPosition, tape: Tape) -> tuple[int, int, Watch]:
        """The position's exit in its symbol's slice, as `find_exit` gives it."""
        row, code, watch = find_exit(tape.ts, tape.price, _start(position, tape), position.bounds, position.watch)
        if code == NOT_FOUND:
            self._after[position.position_id] = watch
        else:
            self._after.pop(position.position_id, None)
        return row, code, watch

    def call(self, position: DeskPosition, tape: Tape, row: int) -> int | None:
        """The strategy says on this row of the slice that the position is to be closed: the row on which that counts.

        None: another exit comes first, or nothing in the slice confirms the price; then it counts in a later one.
        """
        watch = _passed(position, tape, row)._replace(called_ts=int(tape.ts[row]))
        found, code, watch = find_exit(tape.ts, tape.price, row, position.bounds, watch)
        if code == NOT_FOUND:
            self._after[position.position_id] = watch
        return found if code == CALLED else None

    def carry(self, positions: Iterable[tuple[DeskPosition, Tape | None]]) -> None:
        """The slice is over: the watches of open positions go on to its end, past exits that are still on their way."""
        for position, tape in positions:
            after = self._after.get(position.position_id)
            if after is None and tape is not None:
                after = _passed(position, tape, len(tape))
            position.watch = after or position.watch
        self._after.clear()


def _start(position: DeskPosition, tape: Tape) -> int:
    """The first row of the slice that lies after the fill."""
    return int(tape.ts.searchsorted(position.opened_ts, side="right"))


def _passed(position: DeskPosition, tape: Tape, end: int) -> Watch:
    """What the position's watch is before row `end`, whatever would have ended the position before."""
    bounds = ENDLESS._replace(opened_ts=position.opened_ts)
    return find_exit(tape.ts[:end], tape.price[:end], _start(position, tape), bounds, position.watch)[2]
