"""A choice becomes the membership of an epoch, with its explanation, and a failure changes nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apps.bus.streams import shard_of
from apps.market.models import EpochInstrument, FeedEpoch, Instrument, ScreenerRule, ScreenerRun
from apps.market.rest import Rest
from apps.market.services import screener
from apps.market.services.orders import compose_orders
from apps.market.services.screener import RuleRefused, add_rule, due, rule_in_force, screen
from apps.staff import times
from tests import factories
from tests.market.answers import Answer, scripted
from tests.market.ledger import NOW, NOW_MS, member

pytestmark = pytest.mark.django_db


def row(symbol: str, decimals: int = 4, **fields: Any) -> dict[str, Any]:
    return {
        "symbol": symbol, "status": "1", "baseAsset": symbol.removesuffix("USDT"), "quoteAsset": "USDT",
        "quotePrecision": decimals, "baseAssetPrecision": 2, "baseSizePrecision": "0.01", "quoteAmountPrecision": "5",
        "maxQuoteAmount": "2000000", "makerCommission": "0", "takerCommission": "0.0005",
        "isSpotTradingAllowed": True, **fields,
    }  # fmt: skip


def info(*rows: dict[str, Any]) -> Answer:
    return Answer({"symbols": list(rows)})


def tickers(**turnovers: str) -> Answer:
    return Answer([{"symbol": s, "quoteVolume": t, "priceChangePercent": "0.01"} for s, t in turnovers.items()])


@pytest.fixture
def epoch() -> FeedEpoch:
    return factories.FeedEpochFactory.create(shard_count=4)


@pytest.fixture
def top_one() -> ScreenerRule:
    return add_rule(author="tester", reason="a test", mode="turnover", count=1, quote_asset="USDT")


def followed(epoch: FeedEpoch) -> list[str]:
    return [one.symbol for one in compose_orders(epoch=epoch.pk, now_ms=NOW_MS).symbols]


def run(epoch: FeedEpoch, rule: ScreenerRule, url: str, **held: str) -> ScreenerRun:
    return screen(epoch=epoch.pk, rule=rule, held=held, rest=Rest(url), now_ms=NOW_MS)


def test_a_chosen_symbol_becomes_a_member_of_the_epoch_with_its_shard_and_why(
    epoch: FeedEpoch, top_one: ScreenerRule
) -> None:
    with scripted(exchangeInfo=info(row("ADAUSDT", 5), row("XRPUSDT")), ticker__24hr=tickers(ADAUSDT="9")) as server:
        made = run(epoch, top_one, server.url)
    new = EpochInstrument.objects.get()
    assert (new.instrument.symbol, new.shard, new.followed) == ("ADAUSDT", shard_of("ADAUSDT", 4), True)
    assert new.why == "rank 1 by turnover, 1 are wanted"
    assert (new.instrument.price_decimals, new.instrument.source) == (5, epoch.source)
    assert (made.added, made.removed, made.error, made.at) == (["ADAUSDT"], [], "", NOW)
    assert (made.considered, [one["symbol"] for one in made.rows]) == (1, ["ADAUSDT"])


def test_symbols_come_and_go_and_keep_their_rows(epoch: FeedEpoch, top_one: ScreenerRule) -> None:
    gone = member(epoch, "XRPUSDT")
    symbols = [row(f"{letter}USDT") for letter in ("AAA", "BBB", "CCC", "XRP")]
    figures = tickers(AAAUSDT="9", BBBUSDT="8", CCCUSDT="7", XRPUSDT="1")
    with scripted(exchangeInfo=info(*symbols), ticker__24hr=figures) as server:
        made = run(epoch, top_one, server.url)
        assert (followed(epoch), made.removed) == (["AAAUSDT"], ["XRPUSDT"])
        gone.refresh_from_db()
        assert (gone.followed, gone.why, gone.changed_at) == (False, "rank 4 by turnover, 1 are wanted", NOW)
        server.answers["ticker/24hr"] = tickers(XRPUSDT="10", BBBUSDT="9", AAAUSDT="8")
        made = run(epoch, top_one, server.url)
    assert followed(epoch) == ["AAAUSDT", "XRPUSDT"]  # the one stays a while, the other is back
    assert (made.added, made.removed) == (["XRPUSDT"], [])
    assert EpochInstrument.objects.count() == 2


def test_a_symbol_that_trading_needs_is_never_removed(epoch: FeedEpoch, top_one: ScreenerRule) -> None:
    member(epoch, "XRPUSDT")
    with scripted(exchangeInfo=info(row("AAAUSDT")), ticker__24hr=tickers(AAAUSDT="9")) as server:
        made = run(epoch, top_one, server.url, XRPUSDT="an open position needs its prices")
    assert followed(epoch) == ["AAAUSDT", "XRPUSDT"]
    assert [one["verdict"] for one in made.rows] == ["followed", "held"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"exchangeInfo": Answer(status=503)}, "exchangeInfo: HTTP 503"),
        (
            {"exchangeInfo": info(row("AAAUSDT")), "ticker__24hr": Answer(status=500)},
            "ticker/24hr: HTTP 500",
        ),
        (
            {"exchangeInfo": info(row("AAAUSDT")), "ticker__24hr": Answer([])},
            "no symbol fits the rule: who was followed stays",
        ),
    ],
)
def test_a_choice_that_cannot_be_made_leaves_who_is_followed_and_says_so(
    epoch: FeedEpoch, top_one: ScreenerRule, answers: dict[str, Answer], error: str
) -> None:
    member(epoch, "XRPUSDT")
    with scripted(None, **answers) as server:
        made = run(epoch, top_one, server.url)
    assert (made.error, made.added, made.removed) == (error, [], [])
    assert followed(epoch) == ["XRPUSDT"]


def test_a_symbol_whose_decimals_changed_waits_for_another_epoch(epoch: FeedEpoch, top_one: ScreenerRule) -> None:
    member(epoch, "XRPUSDT")
    offer = info(row("XRPUSDT", decimals=5), row("AAAUSDT"))
    with scripted(exchangeInfo=offer, ticker__24hr=tickers(XRPUSDT="9", AAAUSDT="1")) as server:
        run(epoch, top_one, server.url)
    assert followed(epoch) == ["AAAUSDT"]
    assert EpochInstrument.objects.get(instrument__symbol="XRPUSDT").why.startswith("its decimals have changed")
    assert Instrument.objects.get(symbol="XRPUSDT").price_decimals == 4


def test_an_unreadable_row_of_the_exchange_costs_only_its_own_symbol(epoch: FeedEpoch, top_one: ScreenerRule) -> None:
    broken = row("BADUSDT")
    del broken["takerCommission"]
    with scripted(exchangeInfo=info(broken, row("AAAUSDT")), ticker__24hr=tickers(BADUSDT="9", AAAUSDT="1")) as server:
        run(epoch, top_one, server.url)
    assert followed(epoch) == ["AAAUSDT"]


def test_a_fixed_list_asks_for_no_figures(epoch: FeedEpoch) -> None:
    rule = add_rule(author="t", reason="t", mode="fixed", quote_asset="USDT", always=["AAAUSDT", "BBBUSDT"])
    with scripted(exchangeInfo=info(row("AAAUSDT"), row("BBBUSDT"), row("CCCUSDT"))) as server:
        run(epoch, rule, server.url)
        assert [path for path, _ in server.asked] == ["exchangeInfo"]
    assert followed(epoch) == ["AAAUSDT", "BBBUSDT"]


@pytest.mark.parametrize(("error", "minutes", "expected"), [
    ("", 59, False), ("", 60, True), ("HTTP 503", 4, False), ("HTTP 503", 5, True),
])  # fmt: skip
def test_the_next_choice_is_due_after_the_rules_pause_or_soon_after_a_failure(
    epoch: FeedEpoch, top_one: ScreenerRule, error: str, minutes: int, expected: bool
) -> None:
    assert due(epoch=epoch.pk, rule=top_one, now_ms=NOW_MS)
    ScreenerRun.objects.create(rule=top_one, epoch=epoch, considered=0, rows=[], error=error)
    ScreenerRun.objects.update(at=NOW)
    assert due(epoch=epoch.pk, rule=top_one, now_ms=NOW_MS + minutes * 60_000) is expected
    other = add_rule(author="t", reason="t", mode="turnover", count=3, quote_asset="USDT")
    assert rule_in_force() == other
    assert due(epoch=epoch.pk, rule=other, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": "fixed"}, "would follow nothing"),
        ({"mode": "fixed", "always": [f"C{n}USDT" for n in range(10_000)]}, "10000 symbols are more than 2000"),
        ({"mode": "turnover", "count": 0}, "0 symbols cannot be chosen: ask for 1 to 2000"),
        ({"mode": "movement", "count": 10_000}, "10000 symbols cannot be chosen"),
        ({"mode": "turnover", "count": 5, "always": ["AUSDT"], "never": ["AUSDT"]}, "AUSDT is named as always and as"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RuleRefused, match=words):
        add_rule(author="t", reason="t", quote_asset="USDT", **fields)
    assert not ScreenerRule.objects.exists()


def test_old_choices_are_dropped(epoch: FeedEpoch, top_one: ScreenerRule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screener, "RUNS_KEPT", 2)
    with scripted(exchangeInfo=Answer(status=503)) as server:
        for _ in range(4):
            run(epoch, top_one, server.url)
    assert ScreenerRun.objects.filter(epoch=epoch).count() == 2


def test_the_local_exchange_is_ranked_by_its_own_figures(epoch: FeedEpoch, rest_url: str) -> None:
    rule = add_rule(
        author="t", reason="t", mode="turnover", count=3, quote_asset="USDT", turnover_min=Decimal(1)
    )  # fmt: skip
    made = run(epoch, rule, rest_url)
    figures = [Decimal(one["turnover"]) for one in made.rows]
    assert made.considered >= 10
    assert figures == sorted(figures, reverse=True)
    assert followed(epoch) == sorted(one["symbol"] for one in made.rows[:3])
    assert made.at == times.moment(NOW_MS)
