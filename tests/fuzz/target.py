"""What must hold for any bytes: a named refusal or trades that can be believed, and never anything else."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from apps.engine.events import BUY, SELL, Loss, QuoteBlock, TradeBlock
from tests.fuzz.seeds import SEND_MS, SYMBOL
from tests.ingest.frames import quote_frame
from tests.ingest.market import Bench
from workers.ingest.config import Instrument
from workers.ingest.decoder import DealsFrame, FeedProtocolError, channels_for, decode
from workers.ingest.numbers import INT64_MAX
from workers.ingest.symbols import SymbolState, make_states
from workers.ingest.trades import AGE_MAX_MS, LEAD_MAX_MS, TIME_MAX_MS, CheckedTrades, check_quote, check_trades

FRAME_REASONS: Final = {
    *("frame_too_large", "malformed_frame", "bad_send_time", "unknown_symbol", "unknown_message", "symbol_mismatch"),
    "too_many_deals",
}
TRADE_REASONS: Final = {
    *("bad_time", "bad_side", "bad_trade_id", "not_decimal", "too_many_decimals", "not_positive", "too_large"),
}
QUOTE_REASONS: Final = {"quote_crossed", *(f"quote_{reason}" for reason in TRADE_REASONS)}
_INSTRUMENTS: Final = [Instrument(SYMBOL, 2, 8), Instrument("XRPUSDT", 4, 2)]
_IDS_FORGOTTEN_AFTER: Final = 50

Outcome = tuple[str, ...]


class Target:
    """Takes frame after frame; `AssertionError` or anything else that comes out of `try_one` is a failure."""

    def __init__(self) -> None:
        self.refused = 0
        self.frames = 0
        self.trades = 0
        self.quotes = 0
        self._forget()

    def _forget(self) -> None:
        """New memories of ids: what is damaged a little keeps its id, and would only be a duplicate."""
        self._states = make_states(_INSTRUMENTS, 1)
        self._channels = channels_for(self._states)

    def try_one(self, payload: bytes) -> Outcome:
        """What became of it, in words that differ when something else happened."""
        self.frames += 1
        if self.frames % _IDS_FORGOTTEN_AFTER == 0:
            self._forget()
        try:
            frame = decode(payload, self._channels, TIME_MAX_MS)
        except FeedProtocolError as error:
            return self._refused(error)
        assert frame.state in self._states.values()
        assert 0 <= frame.send_ms <= TIME_MAX_MS
        return self._deals(frame) if isinstance(frame, DealsFrame) else self._quote(frame.texts, frame.state)

    def _refused(self, error: FeedProtocolError) -> Outcome:
        assert error.reason in FRAME_REASONS, error.reason
        self.refused += 1
        return (error.reason, "may hold trades" if error.may_hold_trades else "holds no trades")

    def _deals(self, frame: DealsFrame) -> Outcome:
        trades = check_trades(frame.deals, frame.state, frame.send_ms)
        good = len(trades.ts_event)
        assert good + len(trades.bad) + trades.duplicates == len(frame.deals), "a row is unaccounted for"
        reasons = {bad.reason for bad in trades.bad}
        assert reasons <= TRADE_REASONS, reasons
        _believable(trades, frame.send_ms)
        _equal_texts(trades, frame)
        self.trades += good
        self.refused += bool(trades.bad)
        wrong = "several" if len(reasons) > 1 else next(iter(reasons), "nothing")
        doubled = "duplicates" if trades.duplicates else "no duplicates"
        return ("deals", "some good" if good else "none good", f"{wrong} wrong", doubled)

    def _quote(self, texts: tuple[str, str, str, str], state: SymbolState) -> Outcome:
        quote = check_quote(texts, state)
        if isinstance(quote, str):
            assert quote in QUOTE_REASONS, quote
            self.refused += 1
            return ("quote", quote)
        bid, bid_quantity, ask, ask_quantity = quote
        assert 0 < bid < ask <= INT64_MAX
        assert 0 < bid_quantity <= INT64_MAX
        assert 0 < ask_quantity <= INT64_MAX
        self.quotes += 1
        return ("quote", "good")


def _believable(trades: CheckedTrades, send_ms: int) -> None:
    columns = (trades.ts_event, trades.price, trades.quantity, trades.side, trades.trade_id)
    assert len({len(column) for column in columns}) == 1
    earliest, latest = (send_ms - AGE_MAX_MS, send_ms + LEAD_MAX_MS) if send_ms else (1, TIME_MAX_MS)
    for time_ms, price, quantity, side, trade_id in zip(*columns, strict=True):
        assert 0 < time_ms <= latest
        assert earliest <= time_ms
        assert 0 < price <= INT64_MAX
        assert 0 < quantity <= INT64_MAX
        assert side in (BUY, SELL)
        assert len(trade_id) <= 64


def _equal_texts(trades: CheckedTrades, frame: DealsFrame) -> None:
    """The good rows are rows of the frame in its order, and their numbers are exactly what the texts say."""
    rows, state = iter(frame.deals), frame.state
    columns = (trades.ts_event, trades.side, trades.trade_id, trades.price, trades.quantity)
    for *kept, price, quantity in zip(*columns, strict=True):
        assert any(
            [*row[:3]] == kept
            and _is(row[3], price, state.price_decimals)
            and _is(row[4], quantity, state.quantity_decimals)
            for row in rows  # goes on behind the row found last
        ), f"a trade that is not in the frame: {kept} {price} {quantity}"


def _is(text: str, units: int, decimals: int) -> bool:
    plain = text.replace(".", "", 1)
    return plain.isascii() and plain.isdigit() and Decimal(text) == Decimal(units).scaleb(-decimals)


class FeedTarget:
    """The same frames through a whole feed: whatever comes, the stream holds believable events only."""

    def __init__(self) -> None:
        self._bench = Bench()
        self._ordinals: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._bench.feed.opened(1)
        self._bench.accept()
        self._bench.send(quote_frame(SYMBOL, "1.00", "2.00", SEND_MS))

    def take(self, payloads: list[bytes]) -> None:
        """A batch as a connection hands it over, then a look at what came out; then the connection begins anew."""
        bench = self._bench
        bench.feed.frames(payloads, 1)
        bench.feed.poll(bench.clock.monotonic())
        for event in bench.events():
            if isinstance(event, TradeBlock):
                assert event.ordinal == self._ordinals.get(event.symbol, 0) + 1
                self._ordinals[event.symbol] = event.ordinal + len(event.price) - 1
                assert min(event.price) > 0
                assert min(event.quantity) > 0
                assert {*event.side} <= {BUY, SELL}
                assert 0 < min(event.ts_event) <= max(event.ts_event)
            elif isinstance(event, QuoteBlock):
                assert all(0 < bid < ask for bid, ask in zip(event.bid, event.ask, strict=True))
            elif isinstance(event, Loss):
                assert 0 <= event.from_ms <= event.to_ms
        self._begin()
