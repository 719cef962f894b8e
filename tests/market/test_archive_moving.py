"""Segments become day files: once each, whatever the portions, the repetitions and the deaths on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.bus.streams import entry_order
from apps.engine.events import Backfill, CoverageStart, TradeBlock, Watermark
from apps.engine.model import Scale
from apps.engine.shard import ShardEngine
from apps.market.archive import layout, moving
from apps.market.archive.collecting import Standing
from apps.market.archive.layout import QUOTES, TRADES, ArchiveBusy, ArchiveError, Folder, locked
from apps.market.archive.segments import SegmentReader
from apps.market.archive.tables import merge, rows_of
from apps.market.segments import SegmentWriter
from tests.market import archives
from tests.market.archives import FIRST_DAY, SECOND_DAY, START_MS, SYMBOLS, WALL_MS, make_stream, mover, never

STREAM = make_stream()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the stream, made in one go."""
    place = tmp_path_factory.mktemp("whole")
    archives.write_segments(place / "segments", STREAM)
    archives.move_all(place / "archive", place / "segments")
    return place / "archive"


def trades_of(stream: list[archives.Entry]) -> set[tuple[str, int, int, int, int, str]]:
    """What the engine would have counted: every trade under its ordinal once."""
    seen: dict[tuple[str, int], tuple[str, int, int, int, int, str]] = {}
    for _, events in stream:
        for event in events:
            if isinstance(event, TradeBlock):
                columns = zip(event.ts_event, event.price, event.quantity, event.side, event.trade_id, strict=True)
                for number, row in enumerate(columns):
                    seen.setdefault((event.symbol, event.ordinal + number), (event.symbol, *row))
    return set(seen.values()) if len(set(seen.values())) == len(seen) else pytest.fail("the stream holds equal trades")


def test_every_trade_is_there_once_in_the_file_of_its_day(whole: Path) -> None:
    found = archives.rows(whole)
    stored = found.select("symbol", "ts", "price", "quantity", "side", "trade_id").rows()
    assert len(stored) > 100
    assert set(stored) == trades_of(STREAM)
    assert len(stored) == len(set(stored))
    days = found.select(pl.from_epoch("ts", time_unit="ms").dt.strftime("%Y-%m-%d").alias("own"), "day").unique()
    assert sorted(days.rows()) == [(FIRST_DAY, FIRST_DAY), (SECOND_DAY, SECOND_DAY)]


def test_rows_of_a_file_are_in_time_order(whole: Path) -> None:
    for kind, _, _, path in Folder(whole, "test").files():
        assert pl.read_parquet(path)["ts"].is_sorted(), (kind, path)


def test_late_trades_are_those_that_the_engine_calls_late(whole: Path) -> None:
    engine = ShardEngine(dict.fromkeys(SYMBOLS, Scale(2, 2)), [])
    late = []
    for entry_id, events in STREAM:
        effects = engine.apply(entry_id, events)
        assert not effects.errors
        late += [(trade.symbol, trade.price, trade.quantity, trade.trade_id) for trade in effects.late]
    found = archives.rows(whole).filter("late").select("symbol", "price", "quantity", "trade_id").rows()
    assert late
    assert sorted(found) == sorted(late)


def test_quotes_are_kept_beside(whole: Path) -> None:
    assert len(archives.rows(whole, QUOTES)) > 100


def test_doing_it_again_changes_nothing(whole: Path, tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    first = archives.digests(tmp_path / "archive")
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert first == archives.digests(tmp_path / "archive") == archives.digests(whole)


def test_archiving_again_from_the_start_changes_nothing(whole: Path, tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    for path in (tmp_path / "archive" / "test" / "parts").rglob("position.json"):
        path.unlink()
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert archives.digests(tmp_path / "archive") == archives.digests(whole)


cuts = st.lists(st.integers(1, len(STREAM) - 1), max_size=4, unique=True).map(sorted)


@settings(deadline=None, max_examples=8)
@given(cuts, st.integers(20, 200), st.booleans(), st.booleans())
def test_any_portions_give_equal_files(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], rows_max: int, every: bool, open_too: bool
) -> None:
    """Several writers with overlapping files, slices of any size, days settled early or late."""
    place = tmp_path_factory.mktemp("portions")
    for first, last in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        archives.write_segments(place / "segments", STREAM[max(first - 3, 0) : last])  # a takeover reads some again
        for path in (place / "segments").rglob(f"*-{os.getpid()}.seg"):
            path.rename(path.with_name(path.name.replace(f"-{os.getpid()}.seg", f"-{first}.seg")))
        step = mover(place / "archive", place / "segments", rows_max=rows_max)
        step.collect(enough=never, whole=open_too)
        step.settle(enough=never, every=every)
    archives.move_all(place / "archive", place / "segments")
    assert archives.digests(place / "archive") == archives.digests(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from apps.market.archive import layout
from tests.market import archives
left = int(sys.argv[2])
real = layout._sync
def dying(path):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path)
layout._sync = dying
place = Path(sys.argv[1])
archives.move_all(place / "archive", place / "segments")
"""


@pytest.mark.parametrize("syncs", [0, 1, 3, 8, 13])
def test_a_death_at_any_point_gives_equal_files(whole: Path, tmp_path: Path, syncs: int) -> None:
    """Killed between a file's content and its name, and between a file and what says that it is there."""
    archives.write_segments(tmp_path / "segments", STREAM)
    repository = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(syncs), repository]
    died = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100, check=False)
    assert died.returncode == -9, died.stderr
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert archives.digests(tmp_path / "archive") == archives.digests(whole)
    assert not list((tmp_path / "archive").rglob(".writing-*"))


def test_a_slice_that_has_not_ended_waits(tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM[:3])
    step = mover(tmp_path / "archive", tmp_path / "segments")
    assert step.collect(enough=never).slices == 0
    assert step.state.standing.position == "0-0"


def test_only_ended_slices_move_and_the_rest_follows(tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments")
    moved = step.collect(enough=never)
    last = entry_order(STREAM[-1][0])[0]
    assert moved.slices == (last - WALL_MS) // moving.SLICE_MS
    assert entry_order(step.state.standing.position)[0] // moving.SLICE_MS == last // moving.SLICE_MS - 1
    assert not step.may_have_closed(last)
    assert step.may_have_closed(last + moving.SLICE_MS)


def test_a_day_is_settled_when_it_is_over_and_not_before(tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments")
    step.collect(enough=never, whole=True)
    step.settle(enough=never)
    assert not archives.digests(tmp_path / "archive")  # ten minutes of the second day are not enough to be sure
    later = START_MS + 45 * 60_000
    archives.write_segments(tmp_path / "segments", [(f"{WALL_MS * 2}-0", [Watermark(1, later, 0, {})])])
    step.collect(enough=never, whole=True)
    assert step.settle(enough=never) == 4
    assert {name.split("/")[2] for name in archives.digests(tmp_path / "archive")} == {FIRST_DAY}
    assert step.state.days() == [20_001]


def test_a_trade_that_comes_after_its_day_was_settled_is_merged(whole: Path, tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    before = archives.digests(tmp_path / "archive")
    block = TradeBlock(SYMBOLS[0], 1, 10_000, 5, [START_MS + 1], [77], [1], [1], ["straggler"])
    archives.write_segments(tmp_path / "segments", [(f"{WALL_MS * 2}-0", [block])])
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    changed = {name for name, digest in archives.digests(tmp_path / "archive").items() if before[name] != digest}
    assert changed == {f"test/{TRADES}/{FIRST_DAY}/{SYMBOLS[0]}.parquet"}
    row = archives.rows(tmp_path / "archive").filter(pl.col("trade_id") == "straggler").row(0, named=True)
    assert (row["late"], row["day"], row["price"]) == (True, FIRST_DAY, 77)


class Once:
    """Enough from the second time on that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > 1


def test_settling_goes_on_where_time_ran_out(whole: Path, tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments")
    step.collect(enough=never, whole=True)
    calls = 0
    while step.state.parts:
        step.settle(enough=Once(), every=True)
        step = mover(tmp_path / "archive", tmp_path / "segments")
        calls += 1
        assert calls < 10
    assert calls > 2
    assert archives.digests(tmp_path / "archive") == archives.digests(whole)


def test_what_a_replaced_ingest_wrote_is_left_out(tmp_path: Path) -> None:
    block = TradeBlock(SYMBOLS[0], 1, 1, 5, [START_MS], [77], [1], [1], ["old"])
    cover = CoverageStart(2, START_MS, 0, list(SYMBOLS), "test")
    stream: list[archives.Entry] = [("1-0", [cover]), ("2-0", [block]), ("3-0", [archives.without(block, token=2)])]
    archives.write_segments(tmp_path / "segments", stream)
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    found = archives.rows(tmp_path / "archive")
    assert found["entry_ms"].to_list() == [3]


@pytest.mark.parametrize(
    ("ordinal", "ts", "late"),
    [(3, START_MS + 5, []), (6, START_MS + 5, [True]), (6, START_MS + 60_000, [False])],
    ids=["counted as lost already", "its minute was passed", "in time"],
)
def test_a_watermark_closes_minutes_and_settles_what_was_lost(
    tmp_path: Path, ordinal: int, ts: int, late: list[bool]
) -> None:
    """The watermark says that five trades were published up to here; the first one came."""
    symbol = SYMBOLS[0]
    cover = CoverageStart(1, START_MS, 0, [symbol], "test")
    first = TradeBlock(symbol, 1, 1, 5, [START_MS], [77], [1], [1], ["a"])
    passed = Watermark(1, START_MS + 60_000, 5, {symbol: 5})
    second = TradeBlock(symbol, 1, ordinal, 5, [ts], [78], [1], [1], ["b"])
    archives.write_segments(tmp_path / "segments", [("1-0", [cover, first]), ("2-0", [passed]), ("3-0", [second])])
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    found = archives.rows(tmp_path / "archive")
    assert found.filter(pl.col("trade_id") == "b")["late"].to_list() == late


def test_a_part_that_nothing_knows_of_is_cleared_away(tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments")
    step.collect(enough=never, whole=True)
    known = next(step.files.path.glob("*.parquet"))
    known.with_name("000000000000001-000000.trades.parquet").write_bytes(known.read_bytes())
    parts = set(mover(tmp_path / "archive", tmp_path / "segments").files.path.glob("*.parquet"))
    assert len(parts) == sum(len(part.rows) for part in step.state.parts.values())


@pytest.mark.parametrize("stop", range(0, len(STREAM), 7))
def test_entries_of_overlapping_files_come_once_and_reading_goes_on_anywhere(tmp_path: Path, stop: int) -> None:
    """Two drains read the same in part; the reader stops after any entry, within a frame too."""
    ids = [entry_id for entry_id, _ in STREAM]
    for first, last in ((0, 70), (61, len(STREAM))):
        archives.write_segments(tmp_path, STREAM[first:last])
    place = (tmp_path, archives.EPOCH, archives.SHARD)
    reader = SegmentReader(*place, position="0-0", offsets={})
    giving = iter(reader)
    before = [next(giving)[0] for _ in range(stop + 1)]
    assert before == ids[: stop + 1]
    following = SegmentReader(*place, position=ids[stop], offsets=reader.offsets)
    assert [entry_id for entry_id, _ in following] == ids[stop + 1 :]


def test_a_symbol_that_the_shard_does_not_follow_is_left_out(tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments", symbols=[SYMBOLS[1]])
    step.collect(enough=never, whole=True)
    step.settle(enough=never, every=True)
    assert archives.rows(tmp_path / "archive")["symbol"].unique().to_list() == [SYMBOLS[1]]


def test_what_rest_told_afterwards_is_kept_apart(tmp_path: Path) -> None:
    fill = Backfill(1, SYMBOLS[0], START_MS // 60_000, 9, "trades", [START_MS, START_MS], [50, 51], [2, 2], [1, 2])
    archives.write_segments(tmp_path / "segments", [("1-0", [fill])])
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    found = archives.rows(tmp_path / "archive")
    assert found.select("price", "origin", "trade_id", "row").rows() == [(50, 1, "", 0), (51, 1, "", 1)]


def test_an_entry_that_cannot_be_read_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "segments", archives.EPOCH, archives.SHARD)
    writer.append([("1-0", b"\xff damaged")])
    writer.close()
    archives.write_segments(tmp_path / "segments", [("2-0", STREAM[1][1]), *STREAM[2:]])
    step = mover(tmp_path / "archive", tmp_path / "segments")
    step.collect(enough=never, whole=True)
    assert step.state.standing.counts["unreadable"] == 1
    assert step.state.standing.counts[TRADES] > 0


def test_a_frame_that_is_still_being_written_is_read_later(whole: Path, tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    path = next((tmp_path / "segments").rglob("*.seg"))
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert archives.digests(tmp_path / "archive") != archives.digests(whole)
    path.write_bytes(content)
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert archives.digests(tmp_path / "archive") == archives.digests(whole)


def test_a_torn_frame_hides_nothing_that_the_same_process_writes_again(whole: Path, tmp_path: Path) -> None:
    """A full disk cut a frame; the drain read the same entries again when there was room."""
    archives.write_segments(tmp_path / "segments", STREAM[:5])
    path = next((tmp_path / "segments").rglob("*.seg"))
    path.write_bytes(path.read_bytes()[:-5])
    archives.write_segments(tmp_path / "segments", STREAM)
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert archives.digests(tmp_path / "archive") == archives.digests(whole)


def test_what_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments")
    step.collect(enough=never, whole=True)
    path = next((tmp_path / "segments").rglob("*.seg"))
    assert step.state.offsets == {path.name: path.stat().st_size}


def test_no_room_leaves_everything_as_it_was(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.write_segments(tmp_path / "segments", STREAM)
    step = mover(tmp_path / "archive", tmp_path / "segments")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(layout, "_sync", full)
        with pytest.raises(OSError, match="No space left"):
            step.collect(enough=never, whole=True)
    assert not list((tmp_path / "archive").rglob("*.parquet"))
    archives.move_all(tmp_path / "archive", tmp_path / "segments")
    assert archives.digests(tmp_path / "archive") == archives.digests(whole)


def test_one_place_of_the_stream_cannot_stand_for_two_trades(whole: Path, tmp_path: Path) -> None:
    source = Folder(whole, "test").file(TRADES, FIRST_DAY, SYMBOLS[0])
    target = tmp_path / source.name
    target.write_bytes(source.read_bytes())
    other = pl.read_parquet(source).with_columns(pl.col("price") + 1)
    with pytest.raises(ArchiveError, match="stands for different trades"):
        merge(target, TRADES, [other])
    assert target.read_bytes() == source.read_bytes()
    assert merge(target, TRADES, [pl.read_parquet(source)]) == rows_of(source, TRADES)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "test")
    with locked(folder), pytest.raises(ArchiveBusy), locked(folder):
        pass
    with locked(folder):
        assert folder.path.is_dir()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"layout": 99}', b'{"layout": 1}'])
def test_a_position_that_is_not_ours_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "archive" / "test" / "parts" / "0"
    place.mkdir(parents=True)
    (place / "position.json").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"position\.json"):
        mover(tmp_path / "archive", tmp_path / "segments")


def test_a_standing_survives_being_stored() -> None:
    standing = Standing.from_row(Standing(position="5-1", fence=3).as_row())
    assert standing == Standing(position="5-1", fence=3)
