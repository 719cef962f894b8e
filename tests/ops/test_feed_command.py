"""`manage.py feed`: what it says, as a table and as JSON, and what it refuses in one line."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.management import call_command

from apps.bus import streams
from apps.market.models import Bar, Coverage, EpochInstrument, FeedEpoch, Gap, ScreenerRule
from apps.market.services.orders import compose_orders
from apps.staff import times
from tests import factories
from tests.factories import START_MINUTE
from tests.market.answers import Answer, scripted
from tests.market.ledger import NOW_MS, gap, hole, member
from tests.market.test_screener import info, row

pytestmark = pytest.mark.django_db

START = times.iso(START_MINUTE * 60_000)[:16]  # 2023-11-14T22:14
OFFER = info(row("XRPUSDT"), row("ADAUSDT"), row("BTCUSDT"))


@pytest.fixture
def epoch(redis_client: redis.Redis) -> FeedEpoch:
    """A feed of two symbols, of which the first four minutes are closed."""
    made = factories.FeedEpochFactory.create(shard_count=1)
    for symbol in ("XRPUSDT", "ADAUSDT"):
        one = member(made, symbol)
        for number in range(4):
            factories.BarFactory.create(epoch=made, instrument=one.instrument, minute=START_MINUTE + number)
    factories.ShardCursorFactory.create(epoch=made, shard=0, closed_minute=START_MINUTE + 3)
    return made


def of(epoch: FeedEpoch, symbol: str) -> EpochInstrument:
    return epoch.members.select_related("instrument").get(instrument__symbol=symbol)


def feed(*arguments: str) -> tuple[int, str]:
    """(exit code, what was written)."""
    out = io.StringIO()
    try:
        call_command("feed", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def read(*arguments: str) -> tuple[int, Any]:
    code, text = feed(*arguments, "--json")
    return code, json.loads(text)


def connection(**fields: Any) -> dict[str, Any]:
    return {
        "name": "feed-0", "state": "STREAMING", "reason": None, "since_ms": NOW_MS, "opened_ms": NOW_MS,
        "last_frame_ms": NOW_MS, "last_pong_ms": None, "subscriptions": 4, "refused": {}, "missing": [], "silent": [],
        "reconnects": 1, "rotations": 2, "bytes_in": 3, "symbols": ["ADAUSDT", "XRPUSDT"], **fields,
    }  # fmt: skip


def report(client: redis.Redis, epoch: FeedEpoch, *connections: dict[str, Any], **fields: Any) -> None:
    written = {
        "written_ms": time.time_ns() // 1_000_000 + 60_000, "token": 7, "counts": {}, "dropped": {},
        "connections": list(connections), "standby": True, "repairs": {"waiting": 1, "filled": 2, "failed": 3},
        "budget": {"taken": 9}, **fields,
    }  # fmt: skip
    client.set(streams.feed_state_key(epoch.pk), json.dumps(written))


@contextmanager
def reporting(client: redis.Redis, epoch: FeedEpoch, *connections: dict[str, Any]) -> Iterator[None]:
    """An ingest that goes on reporting."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.02):
            report(client, epoch, *connections)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_tells_connections_lease_ledger_and_ends_well_if_all_flows(
    epoch: FeedEpoch, redis_client: redis.Redis
) -> None:
    report(redis_client, epoch, connection())
    code, found = read("status")
    assert (code, found["problems"]) == (0, [])
    one = found["connections"][0]
    assert (one["name"], one["state"], one["reconnects"], one["rotations"]) == ("feed-0", "STREAMING", 1, 2)
    assert (found["standby"], found["repairs"], found["budget"]["taken"]) == (
        True, {"waiting": 1, "filled": 2, "failed": 3}, 9,
    )  # fmt: skip
    assert found["ledger"] == {"proven": 8, "backfilled": 0, "unproven": 0}
    assert found["symbols"] == {"followed": 2, "known": 2}
    code, text = feed("status")
    assert "feed-0" in text
    assert "last 60 min: 8 PROVEN, 0 BACKFILLED, 0 UNPROVEN" in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state": "BLOCKED", "reason": "everything was refused"}, "feed-0 is BLOCKED: everything was refused"),
        ({"state": "CLOSED"}, "feed-0 is CLOSED"),
        ({"refused": {"spot@x@XRPUSDT": "Blocked!"}}, "the exchange refuses XRPUSDT: Blocked!"),
    ],
)
def test_what_keeps_data_from_flowing_is_named_and_ends_with_1(
    epoch: FeedEpoch, redis_client: redis.Redis, change: dict[str, Any], problem: str
) -> None:
    report(redis_client, epoch, connection(**change))
    code, found = read("status")
    assert (code, found["problems"]) == (1, [problem])
    assert problem in feed("status")[1]


@pytest.mark.parametrize(("written_ms", "words"), [(None, "has not reported"), (1, "has not reported for ")])
def test_an_ingest_that_does_not_report_is_a_problem(
    epoch: FeedEpoch, redis_client: redis.Redis, written_ms: int | None, words: str
) -> None:
    if written_ms:
        report(redis_client, epoch, connection(), written_ms=written_ms)
    code, found = read("status")
    assert code == 1
    assert words in found["problems"][0]


# --- coverage and gaps ------------------------------------------------------------------------------------------------


def test_coverage_counts_every_kind_of_minute_and_draws_them(epoch: FeedEpoch) -> None:
    xrp = of(epoch, "XRPUSDT")
    EpochInstrument.objects.filter(pk=xrp.pk).update(swept_minute=START_MINUTE + 2)
    for number, status in ((1, "backfilled"), (2, "unproven")):
        factories.CoverageFactory.create(
            epoch=epoch, instrument=xrp.instrument, minute=START_MINUTE + number, status=status
        )
    code, found = read("coverage", "--from", START)
    assert code == 0
    rows = {one["symbol"]: one for one in found["symbols"]}
    assert {kind: rows["XRPUSDT"][kind] for kind in ("checked", "provisional", "backfilled", "unproven")} == {
        "checked": 1, "provisional": 1, "backfilled": 1, "unproven": 1,
    }  # fmt: skip
    assert (rows["XRPUSDT"]["strip"], rows["ADAUSDT"]["strip"]) == ("#b!+", "++++")
    assert rows["XRPUSDT"]["reasons"] == {"gap of 3 s": 1}
    assert found["total"] == {"checked": 1, "provisional": 5, "backfilled": 1, "unproven": 1, "minutes": 8}
    assert found["shares"]["unproven"] == 0.125
    code, text = feed("coverage", "XRPUSDT")
    assert "#b!+" in text
    assert "ADAUSDT" not in text
    assert "UNPROVEN 1: gap of 3 s" in text


def test_a_long_strip_shows_the_worst_of_each_bucket(epoch: FeedEpoch) -> None:
    xrp = of(epoch, "XRPUSDT")
    hole_at = START_MINUTE + 3
    factories.CoverageFactory.create(epoch=epoch, instrument=xrp.instrument, minute=hole_at)
    first = times.iso((START_MINUTE - 117) * 60_000)[:16]
    _, found = read("coverage", "XRPUSDT", "--from", first)
    assert found["strip_minutes"] == 5
    assert found["symbols"][0]["strip"].strip(".") in ("!", "+!")
    assert found["symbols"][0]["provisional"] == 3


def test_gaps_are_told_with_the_state_of_their_repair(epoch: FeedEpoch) -> None:
    xrp = of(epoch, "XRPUSDT")
    Bar.objects.all().delete()
    gap(xrp, 0, 1)
    Coverage.objects.filter(minute=START_MINUTE).update(attempts=3, detail="failed: HTTP 503")
    gap(of(epoch, "ADAUSDT"), 2, status=Gap.Status.UNFILLABLE)
    code, found = read("gaps")
    assert (code, found["counts"]) == (0, {"open": 1, "filled": 0, "partial": 0, "unfillable": 1})
    assert [one["symbol"] for one in found["gaps"]] == ["ADAUSDT", "XRPUSDT"]
    assert [one["symbol"] for one in read("gaps", "--open")[1]["gaps"]] == ["XRPUSDT"]
    one = found["gaps"][1]
    assert (one["minutes"], one["unproven"], one["attempts"], one["detail"]) == (2, 2, 3, "failed: HTTP 503")
    assert "3 tried, failed: HTTP 503, again at " in feed("gaps")[1]


# --- backfill ---------------------------------------------------------------------------------------------------------


def test_backfill_opens_unproven_minutes_and_says_what_became_of_each(epoch: FeedEpoch) -> None:
    xrp = of(epoch, "XRPUSDT")
    Bar.objects.filter(instrument=xrp.instrument, minute=START_MINUTE).delete()
    hole(xrp, 0, due_ms=None)
    code, done = read("backfill", "XRPUSDT", START, START)
    assert (code, done["asked_again"], done["outcome"]["waiting"]) == (0, 1, 1)
    assert len(compose_orders(epoch=epoch.pk, now_ms=time.time_ns() // 1_000_000 + 1_000).repairs) == 1
    code, text = feed("backfill", "XRPUSDT", START, START[11:], "--wait", "--seconds", "0.1")
    assert code == 1
    assert f"{START.replace('T', ' ')}  waiting: not answered yet" in text


def test_backfill_of_what_is_proven_asks_for_nothing(epoch: FeedEpoch) -> None:
    code, text = feed("backfill", "XRPUSDT", START, START)
    assert (code, text) == (
        0, "XRPUSDT: nothing is UNPROVEN there (1 minutes are PROVEN, 0 BACKFILLED, 0 were never closed)\n",
    )  # fmt: skip


# --- subscribe and unsubscribe ----------------------------------------------------------------------------------------


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with scripted(exchangeInfo=OFFER) as server:
        monkeypatch.setitem(settings.RUNTIME, "exchange", {"rest_url": server.url})
        yield server.url


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"symbols": ["BTCUSDT"]}, 0, "accepted"),
        ({"symbols": ["BTCUSDT"], "refused": {"spot@deals@BTCUSDT": "Blocked! "}}, 1, "refused: Blocked!"),
        ({"symbols": ["BTCUSDT"], "missing": ["spot@deals@BTCUSDT"]}, 1, "no answer yet"),
        ({"symbols": ["BTCUSDT"], "state": "SUBSCRIBING"}, 1, "no answer yet"),
        ({"symbols": []}, 1, "no answer yet"),
    ],
)
def test_subscribe_waits_for_the_exchanges_answer(
    epoch: FeedEpoch, redis_client: redis.Redis, exchange: str, change: dict[str, Any], code: int, told: str
) -> None:
    seconds = "0.6" if told == "no answer yet" else "60"
    wish = ("subscribe", "BTCUSDT", "--reason", "a test", "--by", "bob", "--wait", "--seconds", seconds)
    with reporting(redis_client, epoch, connection(**change)):
        found = read(*wish)
    assert found == (code, {
        "epoch": epoch.pk, "wish": "follow", "changed": ["BTCUSDT"], "already": [], "answers": {"BTCUSDT": told},
    })  # fmt: skip
    assert of(epoch, "BTCUSDT").why == "bob: a test"


def test_an_answer_from_before_the_wish_is_none(epoch: FeedEpoch, redis_client: redis.Redis, exchange: str) -> None:
    report(redis_client, epoch, connection(symbols=["BTCUSDT"]), written_ms=1)
    code, done = read("subscribe", "BTCUSDT", "--reason", "a test", "--wait", "--seconds", "0.3")
    assert (code, done["answers"]) == (1, {"BTCUSDT": "no answer yet"})


def test_unsubscribe_lets_go_without_waiting_unless_asked(epoch: FeedEpoch, redis_client: redis.Redis) -> None:
    code, text = feed("unsubscribe", "XRPUSDT", "--reason", "quiet")
    assert (code, text) == (0, "XRPUSDT is not followed any more\n")
    assert not of(epoch, "XRPUSDT").followed
    with reporting(redis_client, epoch, connection(symbols=["ADAUSDT"])):
        code, text = feed("unsubscribe", "XRPUSDT", "--reason", "quiet", "--wait")
    assert (code, text) == (0, "XRPUSDT was not followed\n")
    assert not ScreenerRule.objects.exists()


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "the following arguments are required: status|coverage|gaps|backfill|subscribe|unsubscribe"),
        ("stop", "argument status|coverage|gaps|backfill|subscribe|unsubscribe: invalid choice: 'stop'"),
        ("gaps --limit x", "argument --limit: invalid int value: 'x'"),
        ("gaps --limit 0", "--limit must be from 1 to 10000"),
        ("coverage NOSUCH", "'NOSUCH' was never followed here"),
        ("coverage xrpusdt", "'xrpusdt' was never followed here: write XRPUSDT"),
        ("coverage --from yesterday", "'yesterday' is not a time such as 2026-11-21T06:40 or 06:40 (UTC)"),
        ("coverage --from 2026-13-01T00:00", "'2026-13-01T00:00' is not a time such as"),
        ("coverage --from 24:00", "'24:00' is not a time such as"),
        ("coverage --from 2023-11-14T22:14 --to 2023-11-14T22:13", "--from must lie before --to"),
        ("coverage --from 2000-01-01T00:00", "--from must lie before --to, by less than 31 days"),
        ("backfill XRPUSDT 22:14", "the following arguments are required: TO"),
        ("backfill XRPUSDT 22:14 22:13", "22:13 lies before 22:14"),
        ("backfill XRPUSDT 2023-01-01T00:00 22:14", "457815 minutes are more than 10080 at once"),
        ("backfill NOSUCH 22:14 22:14", "'NOSUCH' was never followed here"),
        ("subscribe BTCUSDT", "the following arguments are required: --reason"),
        ("subscribe btcusdt --reason x", "'btcusdt' is not a symbol such as BTCUSDT: write BTCUSDT"),
        ("subscribe BTCUSTD --reason x", "the exchange does not list BTCUSTD (is BTCUSDT meant?)"),
        ("subscribe --reason x", "the following arguments are required: SYMBOL"),
        ("unsubscribe BTCUSDT --reason x", "BTCUSDT was never followed here"),
        ("unsubscribe XRPUSDT ADAUSDT --reason x", "that would leave nothing to follow"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    epoch: FeedEpoch, exchange: str, capsys: pytest.CaptureFixture[str], arguments: str, words: str
) -> None:
    code, out = feed(*arguments.split())
    error = capsys.readouterr().err
    assert (code, out) == (2, "")
    assert error.startswith(f"cdb: feed: {words}"), error
    assert error.count("\n") == 1


def test_an_empty_reason_is_refused(epoch: FeedEpoch, capsys: pytest.CaptureFixture[str]) -> None:
    assert feed("unsubscribe", "XRPUSDT", "--reason", " ")[0] == 2
    assert capsys.readouterr().err == "cdb: feed: --reason must have 1 to 200 characters\n"


def test_without_a_feed_every_part_says_so(redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ("status", "coverage", "gaps", "backfill X 1:00 1:00", "subscribe X --reason x"):
        assert feed(*arguments.split())[0] == 2
        assert capsys.readouterr().err == ("cdb: feed: no feed is running: start one with `make demo` or `make up`\n")


def test_an_exchange_that_does_not_answer_changes_nothing(
    epoch: FeedEpoch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted(exchangeInfo=Answer(status=502)) as server:
        monkeypatch.setitem(settings.RUNTIME, "exchange", {"rest_url": server.url})
        assert feed("subscribe", "BTCUSDT", "--reason", "x")[0] == 1
    assert "the exchange does not answer as it should: exchangeInfo: HTTP 502" in capsys.readouterr().err
    assert epoch.members.count() == 2
