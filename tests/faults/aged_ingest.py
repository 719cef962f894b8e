"""`python -m tests.faults.aged_ingest SECONDS --config FILE`: the ingest, whose connections come of age so soon.

The numbers of a day are those of production otherwise; `make soak FACTOR=60` lives through whole ones.
"""

from __future__ import annotations

import sys
from typing import Final

from apps.engine import timeouts

RETRY_SECONDS: Final = 90.0


def grow_old(seconds: float) -> None:
    """Set when a connection is replaced, before anything reads it. The order of all timeouts must still hold."""
    changed = {
        "FEED_ROTATION_SECONDS": seconds,
        "FEED_ROTATION_JITTER_SECONDS": seconds / 10,
        "FEED_ROTATION_RETRY_SECONDS": RETRY_SECONDS,
    }
    for name, value in changed.items():
        setattr(timeouts, name, value)
    assert not timeouts.broken_relations(), timeouts.broken_relations()


if __name__ == "__main__":
    grow_old(float(sys.argv[1]))
    from workers.ingest.__main__ import main

    sys.exit(main(sys.argv[2:]))
