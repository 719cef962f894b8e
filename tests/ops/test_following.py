"""What is followed: by the settings at the start, by the rule while it runs, by a person's word at any time."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings

from apps.market.models import EpochInstrument, FeedEpoch, ScreenerRule, ScreenerRun
from apps.market.rest import Rest
from apps.market.services.feeds import FeedRefused
from apps.ops.services.following import (
    FollowRefused,
    choose_symbols,
    follow_live,
    held_symbols,
    subscribe,
    unsubscribe,
)
from apps.ops.services.sessions import Wanted, prepare
from tests import factories
from tests.market.answers import Answer, scripted
from tests.market.conftest import rest_url  # noqa: F401  (a fixture)
from tests.market.ledger import NOW_MS, member
from tests.market.test_screener import info, row, tickers
from tests.worlds import open_world

pytestmark = pytest.mark.django_db

FEED: dict[str, Any] = {"kind": "live", "source": "live", "description": "the exchange", "shard_count": 2}
OFFER = info(row("AAAUSDT"), row("BBBUSDT"), row("CCCUSDT"), row("CCCUSDC", quoteAsset="USDC"))


def start(url: str, *symbols: str, ranked: tuple[str, int, str] | None = None) -> tuple[FeedEpoch, bool]:
    epoch, is_new, _ = follow_live(feed=FEED, rest=Rest(url), symbols=symbols, ranked=ranked, now_ms=NOW_MS)
    return epoch, is_new


def followed(epoch: FeedEpoch) -> list[str]:
    rows = epoch.members.filter(followed=True).order_by("instrument__symbol")
    return list(rows.values_list("instrument__symbol", flat=True))


def wish(epoch: FeedEpoch, *symbols: str, url: str = "") -> Any:
    words: dict[str, Any] = {"epoch": epoch, "symbols": symbols, "by": "bob", "reason": "a test", "now_ms": NOW_MS}
    return subscribe(**words, rest=Rest(url)) if url else unsubscribe(**words)


# --- the start --------------------------------------------------------------------------------------------------------


def test_the_first_rule_is_that_of_the_settings() -> None:
    with scripted(exchangeInfo=OFFER, ticker__24hr=tickers(AAAUSDT="3", BBBUSDT="2", CCCUSDT="1")) as server:
        epoch, is_new = start(server.url, ranked=("turnover", 2, "USDT"))
    assert (is_new, followed(epoch)) == (True, ["AAAUSDT", "BBBUSDT"])
    rule = ScreenerRule.objects.get()
    assert (rule.mode, rule.count, rule.author, rule.reason) == ("turnover", 2, "settings", "CDB_SCREENER")
    assert epoch.cursors.count() == 2


def test_symbols_that_came_and_went_do_not_begin_another_epoch() -> None:
    with scripted(exchangeInfo=OFFER, ticker__24hr=tickers(AAAUSDT="3", BBBUSDT="2", CCCUSDT="1")) as server:
        first, _ = start(server.url, "AAAUSDT")
        wish(first, "CCCUSDT", url=server.url)
        wish(first, "AAAUSDT")
        again, is_new = start(server.url, "AAAUSDT")
        assert (again, is_new, followed(again)) == (first, False, ["CCCUSDT"])  # unchanged settings undo nothing
        again, is_new = start(server.url, "AAAUSDT", "BBBUSDT")
        assert (again, is_new, followed(again)) == (first, False, ["AAAUSDT", "BBBUSDT"])
        again, is_new = start(server.url, ranked=("turnover", 1, "USDT"))
        assert (again, is_new) == (first, False)


@pytest.mark.parametrize("changes", [{"source": "other"}, {"shard_count": 3}])
def test_another_feed_begins_another_epoch(changes: dict[str, Any]) -> None:
    with scripted(exchangeInfo=OFFER) as server:
        first, _ = start(server.url, "AAAUSDT")
        rest = Rest(server.url)
        other, is_new, _ = follow_live(feed=FEED | changes, rest=rest, symbols=["AAAUSDT"], ranked=None, now_ms=NOW_MS)
    assert is_new
    first.refresh_from_db()
    assert (other != first, first.ended_at is not None) == (True, True)


def test_another_quote_asset_begins_another_epoch() -> None:
    with scripted(exchangeInfo=OFFER) as server:
        first, _ = start(server.url, "AAAUSDT")
        other, is_new = start(server.url, "CCCUSDC")
    assert (is_new, other != first) == (True, True)


@pytest.mark.parametrize(
    ("symbols", "ranked", "words"),
    [
        (["AABUSDT"], None, r"does not list AABUSDT \(is AAAUSDT meant\?\): correct CDB_SYMBOLS"),
        (["AAAUSDT", "CCCUSDC"], None, "one account has one quote currency, these symbols have USDC, USDT"),
        ([], ("turnover", 2, "EUR"), "no symbol of the exchange fits the rule turnover 2 .EUR.: correct CDB_SCREENER"),
    ],
)
def test_a_start_that_could_follow_nothing_is_refused(
    symbols: list[str], ranked: tuple[str, int, str] | None, words: str
) -> None:
    with (
        scripted(exchangeInfo=OFFER, ticker__24hr=tickers(AAAUSDT="1")) as server,
        pytest.raises(FeedRefused, match=words),
    ):
        start(server.url, *symbols, ranked=ranked)


def test_a_live_session_begins_and_goes_on_with_what_its_rule_chooses(rest_url: str) -> None:  # noqa: F811
    wanted = Wanted(
        mode="live", tier="NORMAL", rest_url=rest_url, shard_count=4, engine_hash=settings.ENGINE_HASH,
        live_symbols=("BTCUSDT", "ETHUSDT"), seed=1, live_screener=("movement", 3, "USDT"),
    )  # fmt: skip
    made = prepare(wanted, Rest(rest_url))
    assert len(followed(made.session.epoch)) == 3
    again = prepare(wanted, Rest(rest_url))
    assert (again.session, again.epoch_is_new, again.session_is_new) == (made.session, False, False)


# --- while it runs ----------------------------------------------------------------------------------------------------


def test_a_live_feed_is_chosen_anew_when_its_pause_is_over() -> None:
    with scripted(exchangeInfo=OFFER, ticker__24hr=tickers(AAAUSDT="3", BBBUSDT="2", CCCUSDT="1")) as server:
        epoch, _ = start(server.url, ranked=("turnover", 1, "USDT"))
        rest = Rest(server.url)
        assert choose_symbols(epoch=epoch, rest=rest, now_ms=NOW_MS + 59 * 60_000) is None
        server.answers["ticker/24hr"] = tickers(CCCUSDT="9", BBBUSDT="8", AAAUSDT="1")
        run = choose_symbols(epoch=epoch, rest=rest, now_ms=NOW_MS + 60 * 60_000)
    assert run is not None
    assert (run.added, run.removed) == (["CCCUSDT"], [])
    assert followed(epoch) == ["AAAUSDT", "CCCUSDT"]


def test_recordings_and_the_demo_keep_their_symbols() -> None:
    ScreenerRule.objects.create(mode="turnover", count=1, quote_asset="USDT", author="t", reason="t")
    for kind in ("synthetic", "replay"):
        epoch = factories.FeedEpochFactory.create(kind=kind)
        assert choose_symbols(epoch=epoch, rest=Rest("http://127.0.0.1:1"), now_ms=NOW_MS) is None
    assert not ScreenerRun.objects.exists()


def test_what_positions_and_orders_need_is_held() -> None:
    world = open_world(["XRPUSDT", "ADAUSDT", "DOTUSDT", "TRXUSDT"])
    for symbol, status in (("XRPUSDT", "open"), ("TRXUSDT", "closed")):
        factories.PositionFactory.create(account=world.account, instrument=world.instruments[symbol], status=status)
    for symbol, active in (("ADAUSDT", True), ("DOTUSDT", False)):
        factories.ReservationFactory.create(account=world.account, instrument=world.instruments[symbol], active=active)
    assert held_symbols(epoch=world.epoch.pk) == {
        "XRPUSDT": "an open position needs its prices", "ADAUSDT": "an open order needs its prices",
    }  # fmt: skip
    with pytest.raises(FollowRefused, match="XRPUSDT stays: an open position needs its prices"):
        wish(world.epoch, "XRPUSDT")
    assert held_symbols(epoch=factories.FeedEpochFactory.create().pk) == {}


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_wish_becomes_part_of_a_live_feeds_rule_so_that_the_next_choice_keeps_it() -> None:
    with scripted(exchangeInfo=OFFER, ticker__24hr=tickers(AAAUSDT="3", BBBUSDT="2", CCCUSDT="1")) as server:
        epoch, _ = start(server.url, ranked=("turnover", 2, "USDT"))
        assert wish(epoch, "CCCUSDT", "AAAUSDT", url=server.url).changed == ("CCCUSDT",)
        assert wish(epoch, "BBBUSDT").changed == ("BBBUSDT",)
        rule = ScreenerRule.objects.latest("pk")
        assert (rule.always, rule.never, rule.author, rule.reason, rule.count) == (
            ["AAAUSDT", "CCCUSDT"], ["BBBUSDT"], "bob", "a test", 2,
        )  # fmt: skip
        choose_symbols(epoch=epoch, rest=Rest(server.url), now_ms=NOW_MS)
        assert followed(epoch) == ["AAAUSDT", "CCCUSDT"]
        wish(epoch, "BBBUSDT", url=server.url)
        assert ScreenerRule.objects.latest("pk").never == []


def test_a_wish_for_what_is_so_already_changes_nothing() -> None:
    epoch = factories.FeedEpochFactory.create(source="live")
    member(epoch, "AAAUSDT")
    member(epoch, "BBBUSDT", followed=False)
    with scripted(exchangeInfo=OFFER) as server:
        assert wish(epoch, "AAAUSDT", url=server.url).already == ("AAAUSDT",)
    assert wish(epoch, "BBBUSDT").already == ("BBBUSDT",)
    assert not ScreenerRule.objects.exists()  # a demo has none


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        (["btcusdt"], "'btcusdt' is not a symbol such as BTCUSDT: write BTCUSDT"),
        (["BTC/USDT"], "'BTC/USDT' is not a symbol such as BTCUSDT$"),
        (["AABUSDT"], r"does not list AABUSDT \(is AAAUSDT meant\?\)"),
        (["BBBUSDT", "ZZZUSDT"], "does not list ZZZUSDT"),
        (["CCCUSDC"], "CCCUSDC is quoted in USDC, this feed in USDT"),
        (["OFFUSDT"], "does not let OFFUSDT trade now"),
    ],
)
def test_what_cannot_be_followed_is_refused_whole(symbols: list[str], words: str) -> None:
    epoch = factories.FeedEpochFactory.create()
    member(epoch, "AAAUSDT")
    offer = Answer({"symbols": [*OFFER.document["symbols"], row("OFFUSDT", status="2")]})
    with scripted(exchangeInfo=offer) as server, pytest.raises(FollowRefused, match=words):
        wish(epoch, *symbols, url=server.url)
    assert EpochInstrument.objects.count() == 1


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        (["aaausdt"], "write AAAUSDT"),
        (["AABUSDT"], r"AABUSDT was never followed here \(is AAAUSDT meant\?\)"),
        (["AAAUSDT"], "would leave nothing to follow"),
    ],
)
def test_what_cannot_be_let_go_stays(symbols: list[str], words: str) -> None:
    epoch = factories.FeedEpochFactory.create()
    member(epoch, "AAAUSDT")
    with pytest.raises(FollowRefused, match=words):
        wish(epoch, *symbols)
    assert followed(epoch) == ["AAAUSDT"]
