"""What comes on the link that is to succeed another: decoded and held until the symbols move to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from workers.ingest.decoder import Channels, Deal, DealsFrame, FeedProtocolError, Frame, QuoteFrame, decode
from workers.ingest.inbox import Handover
from workers.ingest.progress import Progress
from workers.ingest.rotation import NOTED_MAX, Rotation, Sieve
from workers.ingest.symbols import QuoteTexts, SymbolState

HELD_FRAMES_MAX: Final = 20_000


class Candidate:
    """Belongs to a feed. It never publishes; a frame that it cannot read makes it unfit."""

    def __init__(self, link: int, handover: Handover, channels: Channels) -> None:
        self.link = link
        self.handover = handover
        self.progress = Progress()
        self.rotation = Rotation()
        self.accepted: frozenset[str] | None = None
        self.since_ms: int | None = None
        self.held: list[tuple[int, Frame]] = []
        self.quotes: dict[str, QuoteTexts] = {}
        self.sieves: dict[str, Sieve] = {}
        self._channels = channels

    def accept(self, symbols: Iterable[str], covered: Iterable[str]) -> None:
        """Every channel was answered. What came before is not known to be whole, and the other link has it too."""
        if self.accepted is None:
            self.held.clear()
        self.accepted = (self.accepted or frozenset()) | frozenset(symbols)
        absent = sorted(set(covered) - self.accepted)
        if absent:
            self.handover.give_up(f"the successor does not deliver {', '.join(absent[:3])}")

    def frame(self, payload: bytes, ts_init: int, send_max_ms: int) -> None:
        try:
            frame = decode(payload, self._channels, send_max_ms)
        except FeedProtocolError as error:
            if error.may_hold_trades:
                self.handover.give_up(f"a frame of the successor was lost: {error.reason}")
            return
        send_ms, symbol = frame.send_ms, frame.state.symbol
        if self.since_ms is None and self.accepted is not None and send_ms:
            self.since_ms = send_ms
        repeated = False
        if isinstance(frame, QuoteFrame):
            repeated = self.quotes.get(symbol) == frame.texts
            self.quotes[symbol] = frame.texts
        if not repeated:
            self._hold(frame, ts_init)
        if send_ms and repeated:
            self.progress.repeated_quote(symbol, send_ms)
        elif send_ms and isinstance(frame, DealsFrame):
            self.progress.round_at(send_ms)

    def both_deliver(self, *, newest_ms: int, published_ms: int, symbols: Iterable[str]) -> None:
        """The link that is to be succeeded has come so far; the cut is made behind that."""
        if self.since_ms is None or self.rotation.cut_ms is not None:
            return
        newest = (newest_ms, self.progress.newest_ms)
        self.rotation.both_deliver(since_ms=self.since_ms, newest_ms=newest, published_ms=published_ms)
        cut_ms = self.rotation.cut_ms or 0
        self.sieves = {symbol: Sieve(cut_ms) for symbol in symbols}

    def note(self, state: SymbolState, deals: Sequence[Deal]) -> None:
        """These rows were published from the other link."""
        sieve = self.sieves.get(state.symbol)
        if sieve is None:
            return
        sieve.note(deals)
        if len(sieve) > NOTED_MAX:
            self.handover.give_up("too many trades without id between the cut and the move")

    @property
    def ids_only(self) -> bool:
        """No row without id is among what is held."""
        return all(deal[2] for _, frame in self.held if isinstance(frame, DealsFrame) for deal in frame.deals)

    def _hold(self, frame: Frame, ts_init: int) -> None:
        if len(self.held) >= HELD_FRAMES_MAX:
            self.handover.give_up("too many frames to hold")
        else:
            self.held.append((ts_init, frame))
