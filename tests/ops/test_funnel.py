"""`manage.py funnel`, `signals` and `status`."""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal

import pytest
import redis
from django.core.management import call_command
from django.utils import timezone

from apps.bus.streams import feed_state_key
from apps.market.models import Bar
from apps.ops.selectors.funnel import STAGES
from apps.portfolio.models import TradingSession
from tests.admin.rows import Road, make_everything, make_road
from tests.factories import (
    BarFactory,
    EpochInstrumentFactory,
    ExitSignalFactory,
    IngestRunFactory,
    ShardCursorFactory,
    SignalFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def road(redis_client: redis.Redis) -> Road:
    return make_road()


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    call_command(*command)
    return capsys.readouterr().out


def funnel(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(printed(capsys, "funnel", "--json"))
    return found


def report(client: redis.Redis, road: Road, **changes: object) -> None:
    now_ms = time.time_ns() // 1_000_000
    connection = {
        "name": "c",
        "state": "STREAMING",
        "last_frame_ms": now_ms - 50,
        "last_pong_ms": None,
        "symbols": ["XRPUSDT"],
    }
    body = {"token": 7, "written_ms": now_ms, "connections": [connection], "last_trade_ms": now_ms - 400, **changes}
    client.set(feed_state_key(road.session.epoch_id), json.dumps(body))


def test_every_stage_is_counted_for_the_open_session_only(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    epoch = road.session.epoch
    IngestRunFactory.create(epoch=epoch, received=30, decoded=20, published=10)
    ShardCursorFactory.create(epoch=epoch, shard=1, processed=9, evaluated=8)
    BarFactory.create_batch(3, epoch=epoch, instrument=road.instrument)
    BarFactory.create(epoch=epoch, instrument=road.instrument, source=Bar.Source.KLINES)
    SignalFactory.create(session=road.session, instrument=road.instrument)
    TradingSession.objects.exclude(pk=road.session.pk).update(ended_at=timezone.now())
    assert {stage: funnel(capsys)[stage] for stage in STAGES} == {
        "received": 48_250,
        "decoded": 48_239,
        "published": 48_225,
        "processed": 48_220,
        "bars": 3,
        "evaluated": 40_008,
        "refused": 0,
        "signals": 3,
        "approved": 1,
        "denied": 1,
        "orders": 1,
        "trades": 1,
    }


def test_rows_of_an_ended_session_are_not_counted(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    TradingSession.objects.update(ended_at=timezone.now())
    make_road("ETHUSDT")
    counts = funnel(capsys)
    assert (counts["signals"], counts["trades"], counts["received"]) == (2, 1, 48_220)


def test_the_live_report_is_used_where_it_is_newer_than_the_stored_run(
    road: Road, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    IngestRunFactory.create(epoch=road.session.epoch, token=7, received=10, decoded=10, published=10)
    report(redis_client, road, counts={"received": 12, "decoded": 11, "published": 9})
    counts = funnel(capsys)
    assert (counts["received"], counts["decoded"], counts["published"]) == (48_232, 48_230, 48_225)


def test_ages_are_seconds_where_they_are_known(
    road: Road, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument=road.instrument)
    report(redis_client, road)
    counts = funnel(capsys)
    assert isinstance(counts["feed_age_s"], float)
    assert isinstance(counts["last_trade_age_s"], float)
    assert 0 <= counts["feed_age_s"] < counts["last_trade_age_s"] < 10
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(counts["as_of"]))


def test_ages_are_null_where_they_are_not_known(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument=road.instrument)
    counts = funnel(capsys)
    assert (counts["feed_age_s"], counts["last_trade_age_s"]) == (None, None)


def test_a_symbol_of_unknown_age_makes_the_age_of_the_feed_unknown(
    road: Road, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument=road.instrument)
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument__symbol="ETHUSDT")
    report(redis_client, road)
    assert funnel(capsys)["feed_age_s"] is None


def test_people_get_a_table(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "funnel")
    assert re.search(r"received +48\u202f220", text)
    assert "feed of unknown age, newest trade of unknown age" in text


@pytest.mark.parametrize("command", ["funnel", "signals"])
def test_without_a_session_there_is_one_clear_line_and_exit_code_1(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit) as end:
        call_command(command, "--json")
    assert end.value.code == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "cdb: no session is open; `make demo` or `manage.py stack up` starts one\n"


def test_signals_are_listed_in_event_order_with_their_decisions(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    first = SignalFactory.create(
        session=road.session, instrument=road.instrument, ts_event=1, price=Decimal("0.5"), change=1 / 3
    )
    exit_signal = ExitSignalFactory.create(position=road.position, ts_event=2)
    rows = json.loads(printed(capsys, "signals", "--json"))
    assert [row["ts_event"] for row in rows] == sorted(row["ts_event"] for row in rows)
    assert len(rows) == 4
    assert rows[0] == {
        "kind": "entry",
        "symbol": "XRPUSDT",
        "ts_event": 1,
        "trade_id": first.trade_id,
        "price": "0.5000",
        "change": 1 / 3,
        "rsi": 60.0,
        "turnover": 100_000.0,
        "decision": None,
        "reasons": [],
    }
    assert (rows[1]["kind"], rows[1]["trade_id"], rows[1]["change"]) == ("exit", exit_signal.trade_id, None)
    assert {(row["decision"], tuple(row["reasons"])) for row in rows[2:]} == {
        ("approved", ()),
        ("denied", ("EXPOSURE",)),
    }


def test_people_get_a_table_of_signals(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "signals")
    assert "EXPOSURE" in text
    assert "+3.00\u202f%" in text


def test_status_says_in_json_what_it_says_in_words(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    make_everything()
    with pytest.raises(SystemExit) as end:
        call_command("status", "--json")
    assert end.value.code == 1
    found = json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        call_command("status", "--line")
    assert capsys.readouterr().out == found["line"] + "\n"
    assert found["situation"] == "no-data"
    assert found["parts"]["data"] == {"text": "data age unknown", "abnormal": True}
    assert found["symbols"] == {"XRPUSDT": None}


def test_status_without_a_session_is_no_alarm(redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "status", "--line").startswith("No session:")
