"""One step of event time as it goes out: what happened, how the trades are numbered, and each channel's frames once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from workers.exchange.channels import Channel
from workers.exchange.frames import FrameEncoder
from workers.exchange.journal import Span, spans_of
from workers.exchange.market import NOTHING, Moves, Print, TimedQuote


class Parcel(NamedTuple):
    """One frame for one channel; a quote has no trades. `numbers` are the trades' places in their symbol's sequence."""

    channel: Channel
    frame: bytes
    send_ms: int
    prints: Sequence[Print]
    numbers: Sequence[int]

    @property
    def spans(self) -> list[Span]:
        return spans_of(self.numbers)


class Round:
    """Made once per step, shared by all connections."""

    def __init__(
        self,
        step_ms: int,
        moves: Mapping[str, Moves],
        numbers: Mapping[str, Sequence[int]],
        encoder: Callable[[Channel], FrameEncoder],
        quote: Callable[[Channel], TimedQuote | None],
    ) -> None:
        self.step_ms = step_ms
        self.spans = {symbol: spans_of(found) for symbol, found in numbers.items() if found}
        self._moves = moves
        self._numbers = numbers
        self._encoder = encoder
        self._quote = quote
        self._frames: dict[str, bytes] = {}

    def frames(self, channel: Channel) -> bytes:
        """All frames of a channel, one after the other; often none."""
        frames = self._frames.get(channel.text)
        if frames is None:
            frames = self._frames[channel.text] = self._encoded(channel)
        return frames

    def _encoded(self, channel: Channel) -> bytes:
        move = self._moves.get(channel.symbol, NOTHING)
        if channel.kind == "deals":
            return self._encoder(channel).deals(move.prints, self.step_ms) if move.prints else b""
        if move.quotes:
            return self._encoder(channel).quotes(move.quotes)
        repeated = self._quote(channel)
        return b"" if repeated is None else self._encoder(channel).quote(repeated, self.step_ms)

    def whole(self, channel: Channel) -> Parcel:
        """All trades of a deals channel as they went out."""
        prints = self._moves.get(channel.symbol, NOTHING).prints
        return Parcel(channel, self.frames(channel), self.step_ms, prints, self._numbers.get(channel.symbol, ()))

    def parcels(self, channel: Channel, per_frame: int) -> list[Parcel]:
        """The same, frame by frame for trades; quotes stay together."""
        if channel.kind != "deals":
            frames = self.frames(channel)
            return [Parcel(channel, frames, self.step_ms, (), ())] if frames else []
        prints = self._moves.get(channel.symbol, NOTHING).prints
        numbers = self._numbers.get(channel.symbol, ())
        encoder = self._encoder(channel)
        parcels = []
        for at in range(0, len(prints), per_frame):
            rows = prints[at : at + per_frame]
            frame = encoder.deals_frame(rows, self.step_ms)
            parcels.append(Parcel(channel, frame, self.step_ms, rows, numbers[at : at + per_frame]))
        return parcels
