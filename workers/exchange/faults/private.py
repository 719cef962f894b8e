"""What goes wrong with private frames: lost, doubled, late, or in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

PRIVATE_MODES: Final = ("drop", "duplicate", "reorder", "late", "silence")
Item = TypeVar("Item")


@dataclass
class PrivateFault:
    """Strikes the next `times` frames of the channels whose name holds `channel`, or all until a time."""

    mode: str
    channel: str
    seconds: float
    times: int | None
    until: float | None


class PrivateFaults(Generic[Item]):
    """Frames pass through here on their way out. `note` journals a fault that strikes."""

    def __init__(self, monotonic: Callable[[], float], note: Callable[..., None]) -> None:
        self._monotonic = monotonic
        self._note = note
        self._faults: list[PrivateFault] = []
        self._kept: dict[str, Item] = {}  # by channel: it follows the next frame of that channel
        self._late: list[tuple[float, Item]] = []

    def arm(self, fault: PrivateFault) -> None:
        """Wait for frames."""
        self._faults.append(fault)

    def heal(self) -> None:
        """Wait for no more frames, and let go what is held."""
        self._faults.clear()
        self._late = [(0.0, item) for _, item in self._late] + [(0.0, item) for item in self._kept.values()]
        self._kept.clear()

    def pass_through(self, channel: str, item: Item) -> Iterable[Item]:
        """What is sent in a frame's place, in this order."""
        if channel in self._kept:
            return [item, self._kept.pop(channel)]
        fault = self._waiting_for(channel)
        if fault is None:
            return [item]
        self._note("private", mode=fault.mode, channel=channel)
        if fault.mode == "duplicate":
            return [item, item]
        if fault.mode == "reorder":
            self._kept[channel] = item
        elif fault.mode == "late":
            self._late.append((self._monotonic() + fault.seconds, item))
        return []

    def due(self) -> list[Item]:
        """Late frames whose time has come."""
        now = self._monotonic()
        ready = [item for due, item in self._late if now >= due]
        self._late = [(due, item) for due, item in self._late if now < due]
        return ready

    def _waiting_for(self, channel: str) -> PrivateFault | None:
        now = self._monotonic()
        self._faults = [
            fault for fault in self._faults if fault.times != 0 and (fault.until is None or now < fault.until)
        ]
        for fault in self._faults:
            if fault.channel in channel:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None
