"""What the damage begins with: frames whose bytes are known, one of our own of every body, and what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.ingest.frames import deals_frame, quote_frame
from tests.proto.golden import GOLDEN_FRAMES
from workers.ingest.channels import deals_channel

CORPUS: Final = Path(__file__).parent / "corpus"
FOUND: Final = CORPUS / "found.txt"  # one input per line as hex, behind it what became of it
SYMBOL: Final = "BTCUSDT"
SEND_MS: Final = 1_736_409_765_052  # the golden frames' time
_TEXT_ID: Final = "730292425431437318X0_730292425431437319X0"


def seeds() -> list[bytes]:
    """Whole frames, most of them good."""
    frames = [bytes.fromhex(text) for text in GOLDEN_FRAMES.values()]
    rows = [("93220.00", "0.044382", 1 + n % 2, SEND_MS - n, f"{n}X0_{_TEXT_ID[:30]}") for n in range(20)]
    frames += [deals_frame(SYMBOL, rows[:count], SEND_MS) for count in (0, 1, 3, 20)]
    frames += [deals_frame(SYMBOL, [(*row[:4], "") for row in rows[:3]], SEND_MS), deals_frame(SYMBOL, rows[:2])]
    frames += [quote_frame(SYMBOL, "93220.00", "93220.01", SEND_MS), quote_frame(SYMBOL, "", "", SEND_MS)]
    frames += [_of_body(field) for field in PushDataV3ApiWrapper.DESCRIPTOR.oneofs_by_name["body"].fields]
    return frames + kept()


def kept() -> list[bytes]:
    """Inputs that earlier runs kept: some for reaching something new, some for having failed."""
    lines = FOUND.read_text().splitlines() if FOUND.exists() else []
    failed = [path.read_text().split()[0] for path in sorted(CORPUS.glob("failed-*.txt"))]
    return [bytes.fromhex(line.split()[0]) for line in lines if line] + [bytes.fromhex(text) for text in failed]


def _of_body(field: Any) -> bytes:
    """A frame of any body with a value in each of its fields, on a channel of trades."""
    frame = PushDataV3ApiWrapper(channel=deals_channel(SYMBOL), symbol=SYMBOL, sendTime=SEND_MS)
    _fill(getattr(frame, field.name))
    return frame.SerializeToString()


def _fill(message: Any) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            _fill(getattr(message, field.name).add())
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, "93220.01")
        elif field.type == FieldDescriptor.TYPE_BOOL:
            setattr(message, field.name, True)
        else:
            setattr(message, field.name, 1)
