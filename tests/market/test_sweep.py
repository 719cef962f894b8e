"""Proven minutes are compared with the exchange's own sums, and a difference is never kept quiet."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from apps.market.models import Bar, Coverage, EpochInstrument, FeedEpoch, KlineDoubt
from apps.market.rest import Rest
from apps.market.services.orders import compose_orders, settle_doubts
from apps.market.services.sweep import SETTLED_MS, Swept, sweep, symbols_per_run
from tests import factories
from tests.factories import START_MINUTE
from tests.market.answers import Answer, Scripted, scripted
from tests.market.conftest import EXCHANGE_START_MS
from tests.market.ledger import NOW, NOW_MS, hole, member

pytestmark = pytest.mark.django_db

DAY = 1_440


@pytest.fixture
def epoch() -> FeedEpoch:
    return factories.FeedEpochFactory.create(shard_count=1)


def reached(epoch: FeedEpoch, minutes: int) -> None:
    """The shard has closed so many minutes, and its watermark stands where the last of them has settled."""
    watermark = (START_MINUTE + minutes) * 60_000 + SETTLED_MS
    factories.ShardCursorFactory.create(epoch=epoch, shard=0, watermark_ms=watermark)


def proven(row: EpochInstrument, *volumes: str, first: int = 0) -> None:
    for number, volume in enumerate(volumes, START_MINUTE + first):
        factories.BarFactory.create(epoch=row.epoch, instrument=row.instrument, minute=number, volume=Decimal(volume))


def told(*volumes: str | None, first: int = 0) -> Answer:
    """Klines of consecutive minutes; None: the exchange does not tell this one."""
    rows = [
        [(START_MINUTE + number) * 60_000, "1", "1", "1", "1", volume, 0, "1"]
        for number, volume in enumerate(volumes, first)
        if volume is not None
    ]
    return Answer(rows)


def run(epoch: FeedEpoch, server: Scripted, **options: Any) -> Swept:
    return sweep(epoch=epoch.pk, rest=Rest(server.url), now_ms=NOW_MS, **{"limit": 9, **options})


def swept(row: EpochInstrument) -> int | None:
    row.refresh_from_db()
    return None if row.swept_minute is None else row.swept_minute - START_MINUTE


def doubts() -> list[tuple[int, Decimal, Decimal]]:
    return [(row.minute - START_MINUTE, row.ours, row.theirs) for row in KlineDoubt.objects.order_by("minute")]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["1", "2"], ["1", "2"], []),
        (["1.50", "0"], ["1.5", "0"], []),
        (["1.50", "0"], ["1.5000000", None], []),
        (["1", "2"], ["1", "2.01"], [(1, "2", "2.01")]),
        (["1", "2"], ["0.99", "2"], [(0, "1", "0.99")]),
        (["1.50"], ["1.5049"], []),  # finer than the instrument's steps: a sum of rounded numbers
        (["1", "2", "3"], ["1", None, "3"], [(1, "2", "0")]),
    ],
)
def test_a_difference_in_volume_is_a_doubt(
    epoch: FeedEpoch, ours: Sequence[str], theirs: Sequence[str | None], expected: list[tuple[int, str, str]]
) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, *ours)
    reached(epoch, len(ours))
    answer = told(*theirs, *([] if theirs[-1] else ["0"]))
    with scripted(klines=answer) as server:
        done = run(epoch, server)
    assert doubts() == [(minute, Decimal(mine), Decimal(other)) for minute, mine, other in expected]
    assert (done.symbols, done.doubts, done.errors) == (1, len(expected), ())


def test_a_minute_in_doubt_is_passed_only_when_the_ledger_has_it(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1", "2", "3", "4")
    reached(epoch, 4)
    with scripted(klines=told("1", "9", "3", "9")) as server:
        run(epoch, server)
        assert swept(row) == 0
        for number in (1, 3):
            hole_of = {"epoch": epoch, "instrument": row.instrument, "minute": START_MINUTE + number}
            factories.CoverageFactory.create(**hole_of)
        run(epoch, server)
    assert swept(row) == 3
    assert not KlineDoubt.objects.filter(settled_at=None).exists()


def test_a_doubt_that_was_settled_opens_again_if_the_sums_part_again(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1")
    reached(epoch, 1)
    with scripted(klines=told("2")) as server:
        run(epoch, server)
        KlineDoubt.objects.update(settled_at=NOW)
        run(epoch, server)
    assert KlineDoubt.objects.get().settled_at is None


def test_only_followed_symbols_are_compared_and_doubted(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT", followed=False)
    proven(row, "1")
    reached(epoch, 1)
    with scripted(klines=told("2")) as server:
        assert run(epoch, server) == Swept()
    KlineDoubt.objects.create(epoch=epoch, instrument=row.instrument, minute=START_MINUTE, ours=1, theirs=2)
    assert compose_orders(epoch=epoch.pk, now_ms=NOW_MS).doubts == []


def test_swept_minute_moves_over_what_was_compared_and_no_minute_is_compared_twice(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1", "2")
    reached(epoch, 2)
    with scripted(klines=told("1", "2")) as server:
        assert run(epoch, server).minutes == 2
        assert swept(row) == 1
        assert run(epoch, server) == Swept()
        assert len(server.asked) == 1


def test_minutes_that_may_still_change_wait(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1", "2", "3")
    reached(epoch, 2)
    with scripted(klines=told("1", "2", "9")) as server:
        run(epoch, server)
    assert swept(row) == 1
    assert doubts() == []


def test_minutes_that_the_exchange_has_not_told_yet_wait(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1", "2", "3")
    reached(epoch, 3)
    with scripted(klines=told("1", "2")) as server:
        run(epoch, server)
        assert swept(row) == 1
        server.answers["klines"] = Answer([])
        run(epoch, server)
        assert swept(row) == 1
    assert doubts() == []


def test_only_minutes_built_of_trades_and_not_in_the_ledger_are_compared(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1", first=1)
    hole(row, 0, 2)
    factories.BarFactory.create(
        epoch=epoch, instrument=row.instrument, minute=START_MINUTE + 3, source=Bar.Source.KLINES
    )
    reached(epoch, 4)
    with scripted(klines=told("7", "1", "7", "7")) as server:
        assert run(epoch, server).minutes == 1
        assert server.asked[0][1]["startTime"] == str((START_MINUTE + 1) * 60_000)
    assert swept(row) == 3
    assert doubts() == []


def test_a_symbol_with_nothing_to_compare_costs_no_call(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    hole(row, 0, 1)
    member(epoch, "ADAUSDT")  # never covered: no bars
    reached(epoch, 2)
    with scripted() as server:
        assert run(epoch, server).symbols == 1
    assert server.asked == []
    assert swept(row) == 1


def test_a_long_absence_is_compared_in_windows_of_a_thousand_minutes(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    Bar.objects.bulk_create(
        factories.BarFactory.build_batch(DAY, epoch=epoch, instrument=row.instrument, volume=Decimal(1))
    )
    for minute, bar in enumerate(Bar.objects.order_by("pk")):
        Bar.objects.filter(pk=bar.pk).update(minute=START_MINUTE + minute)
    reached(epoch, DAY)
    with scripted(klines=told(*["1"] * DAY)) as server:
        assert [run(epoch, server).minutes for _ in range(3)] == [1_000, 440, 0]
    assert swept(row) == DAY - 1


def test_the_symbol_that_was_not_compared_for_longest_comes_first(epoch: FeedEpoch) -> None:
    for symbol, last in (("AAAUSDT", 1), ("BBBUSDT", None), ("CCCUSDT", 0)):
        proven(member(epoch, symbol, swept_minute=None if last is None else START_MINUTE + last), "1", "1", "1", "1")
    reached(epoch, 4)
    with scripted(klines=told("1", "1", "1", "1")) as server:
        for _ in range(3):
            assert run(epoch, server, limit=1).symbols == 1
    assert [parameters["symbol"] for _, parameters in server.asked] == ["BBBUSDT", "CCCUSDT", "AAAUSDT"]


def test_one_symbol_that_the_exchange_refuses_does_not_stop_the_others(epoch: FeedEpoch) -> None:
    for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT", "EEEUSDT"):
        proven(member(epoch, symbol), "1")
    reached(epoch, 1)
    with scripted(klines=Answer({"code": -1121, "msg": "Invalid symbol."}, 400)) as server:
        done = run(epoch, server)
        assert len(server.asked) == 5
    assert done.errors[0] == "AAAUSDT: klines: HTTP 400, Invalid symbol."
    assert not EpochInstrument.objects.exclude(swept_minute=None).exists()


def test_an_exchange_that_fails_is_left_alone_after_three_calls(epoch: FeedEpoch) -> None:
    for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT"):
        proven(member(epoch, symbol), "1")
    reached(epoch, 1)
    with scripted(klines=Answer(status=503)) as server:
        run(epoch, server)
        assert len(server.asked) == 3


def test_a_run_ends_when_its_time_is_over(epoch: FeedEpoch) -> None:
    for symbol in ("AAAUSDT", "BBBUSDT"):
        proven(member(epoch, symbol), "1")
    reached(epoch, 1)
    looks = iter([False, True])
    with scripted(klines=told("1")) as server:
        assert run(epoch, server, enough=lambda: next(looks)).symbols == 1


@pytest.mark.parametrize(("members", "symbols"), [(1, 20), (600, 20), (601, 21), (1_000, 34)])
def test_a_run_each_minute_compares_every_symbol_twice_an_hour(epoch: FeedEpoch, members: int, symbols: int) -> None:
    instruments = factories.InstrumentFactory.build_batch(members)
    for number, instrument in enumerate(instruments):
        instrument.symbol = f"C{number}USDT"
    stored = type(instruments[0]).objects.bulk_create(instruments)
    EpochInstrument.objects.bulk_create(EpochInstrument(epoch=epoch, instrument=one, shard=0) for one in stored)
    assert symbols_per_run(epoch=epoch.pk) == symbols


def test_a_doubt_that_late_trades_have_made_up_for_is_settled_without_a_loss(epoch: FeedEpoch) -> None:
    row = member(epoch, "XRPUSDT")
    proven(row, "1.5")
    reached(epoch, 1)
    with scripted(klines=told("2")) as server:
        run(epoch, server)
    assert len(compose_orders(epoch=epoch.pk, now_ms=NOW_MS).doubts) == 1
    Bar.objects.update(volume=Decimal(2), revision=1)
    assert compose_orders(epoch=epoch.pk, now_ms=NOW_MS).doubts == []
    assert settle_doubts(epoch=epoch.pk, now=NOW) == 1
    assert not Coverage.objects.exists()


def test_the_klines_of_the_local_exchange_agree_with_its_trades(epoch: FeedEpoch, rest_url: str) -> None:
    row = member(epoch, "BTCUSDT", quantity_decimals=6)
    last = EXCHANGE_START_MS // 60_000 - 1
    rows = Rest(rest_url).klines("BTCUSDT", first_minute=last - 9, last_minute=last)
    assert len(rows) == 10
    for number, kline in enumerate(rows):
        missing = Decimal("0.000001") if number == 3 else Decimal(0)
        factories.BarFactory.create(
            epoch=epoch, instrument=row.instrument, minute=kline.minute, volume=kline.volume - missing
        )
    factories.ShardCursorFactory.create(epoch=epoch, shard=0, watermark_ms=EXCHANGE_START_MS + SETTLED_MS)
    done = sweep(epoch=epoch.pk, rest=Rest(rest_url), now_ms=NOW_MS, limit=1)
    assert (done.minutes, done.doubts) == (10, 1)
    assert KlineDoubt.objects.get().minute == rows[3].minute
