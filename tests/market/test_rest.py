"""The exchange's REST as typed answers; whatever else comes is an error that says what it was."""

from __future__ import annotations

import ssl
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from apps.bus.budget import BURST, RestBudget
from apps.market.rest import BODY_BYTES_MAX, Kline, Rest, RestError, Ticker
from tests.ingest.certificates import make_authority, server_context, server_files
from tests.market.answers import Answer, scripted

ROW: list[Any] = [1_700_000_040_000, "0.5", "0.7", "0.4", "0.6", "100.25", 1_700_000_100_000, "55.125"]
MINUTE = 1_700_000_040_000 // 60_000


def klines(url: str, **options: Any) -> list[Kline]:
    return Rest(url, **options).klines("XRPUSDT", first_minute=MINUTE, last_minute=MINUTE + 1)


def test_klines_are_exact_numbers_by_minute() -> None:
    with scripted(klines=Answer([ROW])) as server:
        rows = klines(server.url)
    assert rows == [Kline(MINUTE, *(Decimal(text) for text in ("0.5", "0.7", "0.4", "0.6", "100.25", "55.125")))]
    assert server.asked == [
        (
            "klines",
            {
                "symbol": "XRPUSDT",
                "interval": "1m",
                "limit": "1000",
                "startTime": "1700000040000",
                "endTime": "1700000159999",
            },
        )
    ]


def test_minutes_outside_of_what_was_asked_are_left_out_and_the_rest_is_in_order() -> None:
    rows = [[ROW[0] + 60_000 * number, *ROW[1:]] for number in (1, 0, 2, -1)]
    with scripted(klines=Answer(rows)) as server:
        assert [row.minute - MINUTE for row in klines(server.url)] == [0, 1]


@pytest.mark.parametrize("count", [0, 1_001])
def test_more_klines_than_one_call_gives_are_a_mistake_of_the_caller(count: int) -> None:
    with pytest.raises(ValueError, match="at once"):
        Rest("http://127.0.0.1:1").klines("XRPUSDT", first_minute=0, last_minute=count - 1)


NO_NUMBERS: tuple[Any, ...] = ("NaN", "inf", "-1", "1e400", "", "1,5", None, [])
NO_KLINES: list[Any] = [
    {}, None, "x", [[]], [{}], [None], [[*ROW[:5]]], [["x", *ROW[1:]]], [[ROW[0] + 1, *ROW[1:]]], [[True, *ROW[1:]]],
    *([[*ROW[:5], wrong, *ROW[6:]]] for wrong in NO_NUMBERS),
]  # fmt: skip


@pytest.mark.parametrize("document", NO_KLINES)
def test_klines_that_are_none_are_an_error(document: Any) -> None:
    with scripted(klines=Answer(document)) as server, pytest.raises(RestError, match="klines"):
        klines(server.url)


def test_tickers_tell_turnover_and_movement_where_the_exchange_does() -> None:
    rows = [
        {"symbol": "AUSDT", "quoteVolume": "1000.5", "priceChangePercent": "-0.0123"},
        {"symbol": "BUSDT", "quoteVolume": None, "priceChangePercent": ""},
        {"symbol": "CUSDT", "quoteVolume": "NaN", "priceChangePercent": "1e400"},
        {"symbol": "", "quoteVolume": "1"},
        "nonsense",
    ]
    with scripted(ticker__24hr=Answer(rows)) as server:
        assert Rest(server.url).tickers() == {
            "AUSDT": Ticker("AUSDT", Decimal("1000.5"), Decimal("-0.0123")),
            "BUSDT": Ticker("BUSDT", None, None),
            "CUSDT": Ticker("CUSDT", None, None),
        }


@pytest.mark.parametrize(
    ("answer", "words", "retry"),
    [
        (Answer(status=500), "HTTP 500", True),
        (Answer({"code": -1121, "msg": "Invalid symbol."}, 400), "HTTP 400, Invalid symbol.", False),
        (Answer(status=403, body=b"<html>WAF</html>"), "HTTP 403", False),
        (Answer(status=429, headers={"Retry-After": "7"}), "HTTP 429, asks for 7 s of patience", True),
        (Answer(status=418), "HTTP 418, asks for 120 s of patience", True),
        (Answer(status=301, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 301", False),
        (Answer(body=b"<html>"), "not JSON", True),
        (Answer(body=b"[NaN]"), "not JSON", True),
        (Answer(body=b"[]", headers={"Content-Length": "9"}), "broke off 7 bytes before its end", True),
        (Answer(body=b""), "not JSON", True),
    ],
)
def test_what_is_no_answer_is_an_error_with_its_reason(answer: Answer, words: str, retry: bool) -> None:
    with scripted(klines=answer) as server, pytest.raises(RestError, match=words) as caught:
        klines(server.url)
    assert caught.value.retry is retry
    assert len(server.asked) == 1  # nothing is repeated or followed


def test_the_exchanges_own_number_of_an_error_is_kept() -> None:
    with (
        scripted(klines=Answer({"code": "-1121", "msg": "Invalid symbol."}, 400)) as server,
        pytest.raises(RestError) as caught,
    ):
        klines(server.url)
    assert caught.value.code == "-1121"


def test_an_endless_answer_is_left() -> None:
    with (
        scripted(klines=Answer(body=b" " * (BODY_BYTES_MAX + 1))) as server,
        pytest.raises(RestError, match="larger than"),
    ):
        klines(server.url)


def test_an_answer_in_drops_is_left_after_its_time() -> None:
    clock = iter([0.0, 3.0, 6.0, 9.0])
    with scripted(klines=Answer(body=b" " * 1_000_000)) as server, pytest.raises(RestError, match="within 8 s"):
        klines(server.url, monotonic=lambda: next(clock))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80", "", "file:///etc/passwd"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RestError, match="is not an http address"):
        klines(url)


def test_nobody_at_the_address_is_worth_another_try() -> None:
    with pytest.raises(RestError, match="refused") as caught:
        klines("http://127.0.0.1:1")
    assert caught.value.retry


def test_a_certificate_that_does_not_verify_is_refused(tmp_path: Path) -> None:
    context = server_context(server_files(tmp_path, None))
    with scripted(context, klines=Answer([ROW])) as server, pytest.raises(RestError, match="CERTIFICATE_VERIFY_FAILED"):
        klines(server.url)
    assert server.asked == []


def test_a_certificate_of_a_trusted_authority_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_authority(tmp_path)
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(authority.file))
    with scripted(server_context(server_files(tmp_path, authority)), klines=Answer([ROW])) as server:
        assert len(klines(server.url)) == 1


def test_calls_wait_for_their_turn_in_the_shared_budget(redis_client: redis.Redis) -> None:
    waited: list[float] = []
    budget = RestBudget(redis_client, rate=0.001)  # so slow that this test's own pace does not matter
    with scripted(klines=Answer([ROW])) as server:
        budget.take(BURST)
        klines(server.url, budget=budget, sleep=waited.append, wait_max_seconds=1_000)
    assert len(waited) == 1
    assert 0 < waited[0] < 1_000


def test_a_call_whose_turn_is_too_far_away_is_not_made(redis_client: redis.Redis) -> None:
    budget = RestBudget(redis_client)
    budget.penalty(60)
    with (
        scripted(klines=Answer([ROW])) as server,
        pytest.raises(RestError, match="the REST budget is spent") as caught,
    ):
        klines(server.url, budget=budget)
    assert caught.value.retry
    assert server.asked == []


def test_a_pause_that_the_exchange_asks_for_holds_for_the_next_call(redis_client: redis.Redis) -> None:
    budget = RestBudget(redis_client)
    with scripted(klines=Answer(status=429, headers={"Retry-After": "30"})) as server:
        with pytest.raises(RestError, match="429"):
            klines(server.url, budget=budget)
        with pytest.raises(RestError, match="ask again in"):
            klines(server.url, budget=RestBudget(redis_client))
    assert len(server.asked) == 1
