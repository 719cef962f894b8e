"""Raw segments: what the drain read from the stream, on disk, so that a stream lost with Redis can be derived again.

A segment file is a row of frames. A frame is `length, crc32` (two little-endian 32-bit numbers) and that many bytes of
zstd-compressed msgpack: a list of [entry id, payload]. A process that dies while writing leaves a torn last frame; the
reader stops there, and the next process begins a file of its own. Entries that were read twice stand in two files; the
reader gives each id once, in order.
"""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from apps.bus.streams import entry_order

_HEADER: Final = struct.Struct("<II")
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
FILE_BYTES_MAX: Final = 32 * 1024 * 1024  # a drain that begins reads its shard's newest ones
_CLOCK_SLACK_MS: Final = 3_600_000  # a wall clock that was put back, or a file system that rounds

Entry = tuple[str, bytes]


def shard_folder(root: Path, epoch: int, shard: int) -> Path:
    return root / str(epoch) / str(shard)


class SegmentWriter:
    """Appends to one file of one shard. One writer per process and shard."""

    def __init__(self, root: Path, epoch: int, shard: int) -> None:
        self._folder = shard_folder(root, epoch, shard)
        self._file: int | None = None
        self._size = 0
        self._last = (-1, -1)
        self._compressor = zstandard.ZstdCompressor(level=3)

    def append(self, entries: list[Entry]) -> None:
        """Write entries as one frame, but for those written before. Called before the commit of their reading."""
        entries = [entry for entry in entries if entry_order(entry[0]) > self._last]
        if not entries:
            return
        packed = self._compressor.compress(msgspec.msgpack.encode(entries))
        frame = _HEADER.pack(len(packed), zlib.crc32(packed)) + packed
        if self._file is None or self._size > FILE_BYTES_MAX:
            self._open(entries[0][0])
        assert self._file is not None
        written = os.write(self._file, frame)
        if written != len(frame):
            raise OSError(f"segment of {self._folder}: wrote {written} of {len(frame)} bytes")
        self._size += written
        self._last = entry_order(entries[-1][0])

    def _open(self, first_id: str) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ms, sequence = entry_order(first_id)
        place = f"{ms:015d}-{sequence:06d}-{os.getpid()}"
        path = self._folder / f"{place}.seg"
        # A disk that was full may have left a torn frame there: what follows one is not read.
        while path.exists():
            place += "a"
            path = self._folder / f"{place}.seg"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Ahead:
    """Entries that come one by one, looked at before they are passed."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = iter(entries)
        self._seen: deque[Entry] = deque()

    def look(self, count: int) -> list[Entry]:
        """The next `count` entries, fewer at the end."""
        self._seen.extend(islice(self._entries, max(count - len(self._seen), 0)))
        return list(islice(self._seen, count))

    def pass_by(self, last: str) -> set[str]:
        """Leave behind what was looked at up to `last`; returns its ids."""
        passed = set()
        while self._seen and entry_order(self._seen[0][0]) <= entry_order(last):
            passed.add(self._seen.popleft()[0])
        return passed


def read_frames(path: Path, offset: int = 0) -> Iterator[tuple[int, list[Entry]]]:
    """(where the frame ends, its entries) from a frame's beginning on, up to the file's end or a torn frame."""
    decompressor = zstandard.ZstdDecompressor()
    decoder = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
    with path.open("rb") as file:
        file.seek(offset)
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, crc = _HEADER.unpack(header)
            packed = file.read(length) if length <= FRAME_BYTES_MAX else b""
            if len(packed) != length or zlib.crc32(packed) != crc:
                return  # torn: its writer died here
            offset += _HEADER.size + length
            yield offset, decoder.decode(decompressor.decompress(packed, max_output_size=FRAME_BYTES_MAX))


def _read_file(path: Path) -> Iterator[Entry]:
    for _, entries in read_frames(path):
        yield from entries


def read_newest_segments(root: Path, epoch: int, shard: int, *, start: str) -> Iterator[Entry]:
    """`read_segments` without the files that were written last before `start` was, which ids tell in wall time."""
    written_ms = entry_order(start)[0] - _CLOCK_SLACK_MS
    files = shard_folder(root, epoch, shard).glob("*.seg")
    return _entries([path for path in files if path.stat().st_mtime * 1000 >= written_ms], start)


def read_segments(root: Path, epoch: int, shard: int, *, start: str = "0-0") -> Iterator[Entry]:
    """Every stored entry from `start` on, each once, in stream order."""
    return _entries(shard_folder(root, epoch, shard).glob("*.seg"), start)


def _entries(paths: Iterable[Path], start: str) -> Iterator[Entry]:
    files = sorted(paths)
    merged = heapq.merge(*(_read_file(path) for path in files), key=lambda entry: entry_order(entry[0]))
    last = (-1, -1)
    first = entry_order(start)
    for entry_id, payload in merged:
        order = entry_order(entry_id)
        if order >= first and order > last:
            last = order
            yield entry_id, payload
