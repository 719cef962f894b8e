"""The ground truth of a run: what the market made and what was sent to whom, one JSON object per line.

Lines are gathered and written once per tick, whole lines only, so that a reader sees no half of one. The first line of
a process names it (`"k":"start"`); a file that exists is continued.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from workers.exchange.frames import decimal_text
from workers.exchange.market import MarketSource, Print

Span = tuple[int, int]  # first and last of trade numbers without a hole


class Journal:
    """Writes lines in the order of its calls. Without a path it does nothing."""

    def __init__(self, path: Path | None, source: MarketSource, wall_ms: Callable[[], int]) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None
        self.on = self._file is not None
        self._wall_ms = wall_ms
        self._trade_ids = source.trade_ids
        self._source = source
        self._writers: dict[str, tuple[Callable[[int], str], Callable[[int], str]]] = {}
        self._lines: list[str] = []

    def event(self, kind: str, **values: object) -> None:
        """Anything but a trade."""
        if self.on:
            row = {"k": kind, **values, "wall_ms": self._wall_ms()}
            self._lines.append(json.dumps(row, separators=(",", ":")))

    def made(self, symbol: str, first: int, prints: Sequence[Print]) -> None:
        """Trades of one symbol, numbered from `first` on."""
        if not self.on:
            return
        price, quantity = self._writer(symbol)
        for number, row in enumerate(prints, first):
            trade_id = row.trade_id.decode() if self._trade_ids else ""
            self._lines.append(
                f'{{"k":"made","s":"{symbol}","n":{number},"t":{row.time_ms},"id":"{trade_id}",'
                f'"p":"{price(row.price_ticks)}","q":"{quantity(row.quantity_steps)}","side":{row.side}}}'
            )

    def sent(self, connection: int, symbol: str, spans: Sequence[Span], why: str = "") -> None:
        """Trades of one symbol were handed to a connection's socket."""
        if not self.on:
            return
        wall_ms, note = self._wall_ms(), f',"why":"{why}"' if why else ""
        for first, last in spans:
            head = f'{{"k":"sent","c":{connection},"s":"{symbol}","n":[{first},{last}]'
            self._lines.append(f'{head}{note},"wall_ms":{wall_ms}}}')

    def flush(self) -> None:
        """Hand everything gathered to the operating system."""
        if self._file is not None and self._lines:
            self._file.write("\n".join(self._lines) + "\n")
            self._file.flush()
            self._lines.clear()

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        self.on = False

    def _writer(self, symbol: str) -> tuple[Callable[[int], str], Callable[[int], str]]:
        writer = self._writers.get(symbol)
        if writer is None:
            spec = self._source.instruments[symbol]
            writer = decimal_text(spec.price_decimals), decimal_text(spec.quantity_decimals)
            self._writers[symbol] = writer
        return writer


def spans_of(numbers: Sequence[int]) -> list[Span]:
    """Growing numbers as stretches without a hole."""
    if isinstance(numbers, range):
        return [(numbers[0], numbers[-1])] if numbers else []
    spans: list[Span] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans
