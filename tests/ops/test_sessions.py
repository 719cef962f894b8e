"""A start continues the session that fits and begins another where it does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from apps.execution.selectors import venue_of
from apps.market.models import EpochInstrument, FeedEpoch, ShardCursor
from apps.market.rest import Rest, exchange_info
from apps.market.services.feeds import FeedRefused, store_instruments
from apps.ops.services.sessions import Prepared, SessionRefused, Wanted, end_unfit
from apps.ops.services.sessions import prepare as prepare_by
from apps.portfolio.models import Account, LedgerEntry, TradingSession
from apps.signals.models import StrategyVersion
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer, running
from workers.exchange.synthetic import SyntheticSource

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def rest_url() -> Iterator[str]:
    """A local exchange in a thread of its own."""
    ready, stop, found = threading.Event(), threading.Event(), {}

    async def serve() -> None:
        # Each test asks for all instruments, and Redis, which keeps the budget, is emptied in between.
        limits = Limits(rest_weight_max=None)
        exchange = ExchangeServer(SyntheticSource(seed=1, start_ms=1_700_000_040_000), limits=limits)
        async with running(exchange) as server:
            found["port"] = server.port
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{found['port']}"
    stop.set()
    thread.join(20)


def wanted(rest_url: str, **changes: Any) -> Wanted:
    return replace(
        Wanted(
            mode="demo",
            tier="NORMAL",
            rest_url=rest_url,
            shard_count=4,
            engine_hash=settings.ENGINE_HASH,
            live_symbols=("BTCUSDT", "ETHUSDT"),
            seed=1,
        ),
        **changes,
    )


def prepare(asked: Wanted) -> Prepared:
    """Without the shared budget, whose bucket holds one such call at a time."""
    return prepare_by(asked, Rest(asked.rest_url))


def test_the_first_start_makes_everything_that_trading_needs(rest_url: str) -> None:
    made = prepare(wanted(rest_url))
    assert made.epoch_is_new
    assert made.session_is_new
    account = Account.objects.get(session=made.session)
    assert account.cash == 100_000
    assert sum(LedgerEntry.objects.filter(account=account).values_list("amount", flat=True)) == 0
    assert ShardCursor.objects.filter(epoch=made.session.epoch).count() == 4
    assert EpochInstrument.objects.filter(epoch=made.session.epoch).count() >= 8


def test_a_session_states_exactly_the_settings_that_its_paper_venue_reads(rest_url: str) -> None:
    session = prepare(wanted(rest_url)).session
    assert venue_of(session).name == "paper"
    session.config["paper"]["slippage"] = "5"
    with pytest.raises(ValueError, match="paper settings are"):
        venue_of(session)


def test_a_session_trades_at_the_local_exchange_only_if_it_begins_so_and_the_key_is_there(
    rest_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SECRETS_DIR", tmp_path)
    ws_url = rest_url.replace("http", "ws") + "/ws"
    asked = wanted(rest_url, venue="exchange", ws_url=ws_url)
    with pytest.raises(SessionRefused, match="exchange_key: cannot be read"):
        prepare(asked)
    for name, text in (("exchange_key", "mx0testaaaaaaaaaaaa"), ("exchange_secret", "s")):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    with pytest.raises(SessionRefused, match="is not this machine"):
        prepare(replace(asked, ws_url="ws://10.0.0.7:8001/ws"))
    session = prepare(asked).session
    assert session.config["venue"] == {"kind": "exchange", "rest_url": rest_url, "ws_url": ws_url}
    assert prepare(wanted(rest_url)).session == session  # whoever does not name a venue goes on with it
    with pytest.raises(SessionRefused, match="trades at exchange: another venue"):
        prepare(wanted(rest_url, venue="paper"))


def test_the_same_start_again_continues(rest_url: str) -> None:
    first, again = prepare(wanted(rest_url)), prepare(wanted(rest_url))
    assert (again.session, again.epoch_is_new, again.session_is_new) == (first.session, False, False)


@pytest.mark.parametrize(
    "changes", [{"tier": "HIGH_TRUST"}, {"new_session": True}, {"seed": 2}, {"shard_count": 2}, {"mode": "live"}]
)
def test_another_start_begins_a_session_with_an_epoch_of_its_own(rest_url: str, changes: dict[str, Any]) -> None:
    first = prepare(wanted(rest_url)).session
    other = prepare(wanted(rest_url, **changes)).session
    assert other != first
    assert other.epoch != first.epoch
    assert list(TradingSession.objects.filter(ended_at__isnull=True)) == [other]
    assert list(FeedEpoch.objects.filter(ended_at__isnull=True)) == [other.epoch]


def test_a_session_of_other_engine_sources_is_not_continued_by_chance(rest_url: str) -> None:
    prepare(wanted(rest_url))
    with pytest.raises(SessionRefused, match="NEW_SESSION=1"):
        prepare(wanted(rest_url, engine_hash="f" * 64))
    prepare(wanted(rest_url, engine_hash="f" * 64, new_session=True))
    assert StrategyVersion.objects.count() == 2


def test_only_a_session_that_does_not_fit_is_ended(rest_url: str) -> None:
    prepare(wanted(rest_url))
    assert not end_unfit(tier="NORMAL", new_session=False)
    assert end_unfit(tier="LOW_TRUST", new_session=False)
    assert not end_unfit(tier="LOW_TRUST", new_session=True)


def test_mixed_quote_currencies_are_refused(rest_url: str) -> None:

    rows = exchange_info(rest_url)
    rows["BTCUSDT"] = {**rows["BTCUSDT"], "quoteAsset": "USDC"}
    with pytest.raises(FeedRefused, match="USDC, USDT"):
        store_instruments(source="live", rows=rows, symbols=["BTCUSDT", "ETHUSDT"])
    with pytest.raises(FeedRefused, match="does not list"):
        store_instruments(source="live", rows=rows, symbols=["NOSUCHUSDT"])


@pytest.mark.parametrize(("mode", "tier"), [("live", "LOW_TRUST"), ("demo", "NORMAL")])
def test_a_session_begins_in_the_tier_that_fits_its_market(rest_url: str, mode: str, tier: str) -> None:
    call_command("prepare_session", "--mode", mode, "--rest-url", rest_url, stdout=StringIO())
    assert TradingSession.objects.get().tier == tier
