"""Which kinds of a script really struck: drawn is not yet felt, a frame to be cut must come first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from tests.faultproxy import Counters

# Of the exchange: what its journal calls them.
_EXCHANGE: Final[dict[str, frozenset[str]]] = {
    "silence": frozenset({"silence", "mute_market"}),
    "duplicate": frozenset({"duplicate"}),
    "reorder": frozenset({"reorder"}),
    "late": frozenset({"late"}),
    "swallow": frozenset({"swallow"}),
    "refused": frozenset({"refuse"}),
    "no_ack": frozenset({"ack"}),
    "rest": frozenset({"rest"}),
    "cut_frame": frozenset({"cut_frame"}),
    "garbage": frozenset(
        {
            "truncate", "garbage", "unknown_oneof", "unknown_channel", "text_in_binary", "binary_in_text", "bad_utf8",
            "deep", "empty_deals", "huge_frame", "bad_values", "split",
        }
    ),
}  # fmt: skip
# Of the network and of our own processes: they hold for whoever is there.
_ALWAYS: Final = frozenset({"half_open", "throttle", "delay", "redis_stop", "kill_ingest"})


def journal_faults(journal: Path) -> Counter[str]:
    """How often each fault of the exchange struck, by its journal."""
    found: Counter[str] = Counter()
    with journal.open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"k":"fault"') and line.endswith(b"\n"):
                found[msgspec.json.decode(line)["do"]] += 1
    return found


def struck(kinds: tuple[str, ...], faults: Counter[str], way: Counters, rotated: int) -> tuple[str, ...]:
    """Those of the drawn kinds of which there is a trace."""
    by_the_network = {"reset": way.resets, "cut_frame": way.cuts, "corrupt": way.corrupted, "rotation": rotated}
    return tuple(
        kind
        for kind in kinds
        if kind in _ALWAYS or by_the_network.get(kind) or any(faults[do] for do in _EXCHANGE.get(kind, ()))
    )
