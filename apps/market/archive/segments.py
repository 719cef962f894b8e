"""Entries of one shard's raw segments from a position on, without reading what was read before.

Files are opened when their first entry's turn comes, so their number does not matter. How far each has been read is
remembered as the end of its last frame of which nothing is needed any more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apps.bus.streams import entry_order
from apps.market.segments import Entry, read_frames, shard_folder

Order = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is left of a frame, and where the file goes on after it."""

    entries: deque[Entry]
    begin: int
    end: int


class SegmentReader:
    """Iterates (id, payload) of every entry after `position`, each once, in stream order.

    `offsets` (file name -> byte) is where to read on for everything from the last given entry on, that entry included;
    at the end of the iteration, for what follows it.
    """

    def __init__(self, root: Path, epoch: int, shard: int, *, position: str, offsets: dict[str, int]) -> None:
        self._last = entry_order(position)
        self._folder = shard_folder(root, epoch, shard)
        self.offsets = {name: at for name, at in offsets.items() if (self._folder / name).exists()}

    def __iter__(self) -> Iterator[Entry]:
        waiting = deque(sorted((_first_of(path), path) for path in self._folder.glob("*.seg")))
        heap: list[tuple[Order, int, Path, Iterator[tuple[int, list[Entry]]], _Frame]] = []
        opened = 0
        while waiting or heap:
            while waiting and (not heap or waiting[0][0] <= heap[0][0]):
                path = waiting.popleft()[1]
                opened += 1
                self._push(heap, opened, path, self._frames(path), self.offsets.get(path.name, 0))
            if not heap:
                continue
            order, number, path, frames, frame = heapq.heappop(heap)
            entry_id, payload = frame.entries.popleft()
            if order > self._last:
                self._last = order
                yield entry_id, payload
            self.offsets[path.name] = frame.begin if frame.entries else frame.end
            if frame.entries:
                heapq.heappush(heap, (entry_order(frame.entries[0][0]), number, path, frames, frame))
            else:
                self._push(heap, number, path, frames, frame.end)

    def _frames(self, path: Path) -> Iterator[tuple[int, list[Entry]]]:
        begin = self.offsets.get(path.name, 0)
        return read_frames(path, begin) if begin < path.stat().st_size else iter(())

    def _push(
        self,
        heap: list[tuple[Order, int, Path, Iterator[tuple[int, list[Entry]]], _Frame]],
        number: int,
        path: Path,
        frames: Iterator[tuple[int, list[Entry]]],
        begin: int,
    ) -> None:
        """Put the file's next frame into the heap; the number keeps equal entries of two files apart."""
        for end, entries in frames:
            if entries:
                frame = _Frame(deque(entries), begin, end)
                heapq.heappush(heap, (entry_order(entries[0][0]), number, path, frames, frame))
                return
            begin = end


def _first_of(path: Path) -> Order:
    """The first entry of a segment, as its name says."""
    ms, sequence, *_ = path.name.split("-")
    return int(ms), int(sequence)
