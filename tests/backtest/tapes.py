"""Small tapes for tests."""

from __future__ import annotations

import numpy as np

from apps.engine.model import Scale
from apps.engine.tapes import Tape

START_MS = 1_700_000_040_000


def tape(times: list[int], *, symbol: str = "XRPUSDT", price: int = 5_000) -> Tape:
    """Trades of one step at `price` ticks; times are ms after a whole minute."""
    ts = np.array(times, np.int64) + START_MS
    count = len(ts)
    return Tape(
        symbol,
        Scale(4, 2),
        ts,
        np.full(count, price, np.int64),
        np.full(count, 1, np.int64),
        np.full(count, 1, np.int8),
        [str(number) for number in range(count)],
    )
