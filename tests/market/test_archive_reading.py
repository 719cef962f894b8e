"""Tapes: slices of bounded size that joined are what was archived or recorded, whatever the size."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.instrument_specs import RecordingError
from apps.engine.recording import HEADER
from apps.engine.tapes import Tape
from apps.market.archive import carrying, tables
from apps.market.archive.layout import COVERAGE, TRADES, ArchiveError, Folder, Meta, write_meta
from apps.market.archive.reading import read_csv, read_tapes
from apps.market.archive.tables import SCHEMAS, write_table
from tests.market import archives
from tests.market.archives import FIRST_DAY, SECOND_DAY, START_MS, SYMBOLS, make_stream
from tests.road.recordings import INSTRUMENTS, make_recording

DAY_START_MS = START_MS // archives.DAY_MS * archives.DAY_MS
ROW = {
    "baseAsset": "AAA", "quoteAsset": "USDT", "baseAssetPrecision": 2, "quotePrecision": 4, "takerCommission": "0.0005",
}  # fmt: skip
Joined = dict[str, list[tuple[int, int, int, int, str]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two days of a stream with quotes."""
    place = tmp_path_factory.mktemp("stream")
    archives.write_segments(place / "segments", make_stream())
    archives.move_all(place / "archive", place / "segments")
    found = Folder(place / "archive", "test")
    write_meta(found, Meta("live", "live", "test", dict.fromkeys(SYMBOLS, ROW)))
    return found


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("recording"), minutes=30)


@pytest.fixture(scope="module")
def imported(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    place = tmp_path_factory.mktemp("imported")
    carrying.import_csv(place, [recording])
    return Folder(place, "recording")


def texts_of(tape: Tape) -> list[str]:
    return [tape.trade_id[row] for row in range(len(tape.trade_id))]


def joined(slices: Iterable[dict[str, Tape]]) -> Joined:
    found: Joined = {}
    for tapes in slices:
        for name, tape in tapes.items():
            tape.check()
            columns = (tape.ts, tape.price, tape.quantity, tape.side)
            rows = zip(*(column.tolist() for column in columns), texts_of(tape), strict=True)
            found.setdefault(name, []).extend(rows)
    return {name: rows for name, rows in found.items() if rows}


def by_file(folder: Folder) -> Joined:
    """What polars alone reads from the files."""
    found = archives.rows(folder.root, TRADES, key=folder.key)
    names = ["ts", "price", "quantity", "side", "trade_id"]
    return {name: found.filter(pl.col("symbol") == name).select(names).rows() for name in found["symbol"].unique()}


def test_joined_slices_are_what_was_archived(folder: Folder) -> None:
    found = joined(read_tapes(folder))
    assert found == by_file(folder)
    assert sum(len(rows) for rows in found.values()) > 100


def test_columns_are_of_the_types_that_kernels_take(folder: Folder) -> None:
    tape = next(read_tapes(folder))[SYMBOLS[0]]
    kinds = [column.dtype for column in (tape.ts, tape.price, tape.quantity, tape.side)]
    assert kinds == [np.int64, np.int64, np.int64, np.int8]
    assert (tape.scale.price_decimals, tape.scale.quantity_decimals) == (4, 2)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 5), st.integers(1, 400))
def test_any_size_of_slice_gives_the_same_and_ends_for_all_at_one_instant(
    folder: Folder, group: int, rows_max: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("apps.market.archive.reading.GROUP_ROWS", group)
        slices = list(read_tapes(folder, rows_max=rows_max))
    assert joined(slices) == by_file(folder)
    ends = [max(int(tape.ts[-1]) for tape in tapes.values() if len(tape)) for tapes in slices if _trades(tapes)]
    begins = [min(int(tape.ts[0]) for tape in tapes.values() if len(tape)) for tapes in slices if _trades(tapes)]
    assert all(end < begin for end, begin in zip(ends[:-1], begins[1:], strict=True))


def _trades(tapes: dict[str, Tape]) -> int:
    return sum(len(tape) for tape in tapes.values())


def test_a_millisecond_is_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five trades in each of three milliseconds, read two at a time."""
    monkeypatch.setattr("apps.market.archive.reading.GROUP_ROWS", 2)
    path = tmp_path / "same.csv"
    rows = [f"AAAUSDT,{1_700_000_000_000 + number // 5},{number},buy,1.5,2" for number in range(15)]
    carrying.import_csv(tmp_path / "archive", [write_csv(path, rows)])
    slices = list(read_tapes(Folder(tmp_path / "archive", "same"), rows_max=1))
    assert [len(tapes["AAAUSDT"]) for tapes in slices] == [5, 5, 5]
    assert [len(tapes["AAAUSDT"]) for tapes in read_csv([path], rows_max=2)] == [5, 5, 5]


def test_a_small_slice_is_small(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.market.archive.reading.GROUP_ROWS", 16)
    assert max(_trades(tapes) for tapes in read_tapes(folder, rows_max=32)) <= 64


@pytest.mark.parametrize(
    ("from_ms", "to_ms"),
    [
        (DAY_START_MS + archives.DAY_MS, 2**62),
        (0, DAY_START_MS + archives.DAY_MS),
        (START_MS + 60_000, START_MS + 120_000),
        (START_MS + 597_000, START_MS + 603_000),
    ],
)
def test_a_span_gives_what_lies_in_it(folder: Folder, from_ms: int, to_ms: int) -> None:
    expected = {name: [row for row in rows if from_ms <= row[0] < to_ms] for name, rows in by_file(folder).items()}
    found = joined(read_tapes(folder, from_ms=from_ms, to_ms=to_ms))
    assert found == {name: rows for name, rows in expected.items() if rows}


def test_symbols_can_be_chosen(folder: Folder) -> None:
    assert joined(read_tapes(folder, symbols=[SYMBOLS[1]])) == {SYMBOLS[1]: by_file(folder)[SYMBOLS[1]]}


def test_late_trades_can_be_left_out(folder: Folder) -> None:
    late = archives.rows(folder.root).filter("late")
    assert len(late)
    kept = joined(read_tapes(folder, late=False))
    assert sum(map(len, kept.values())) == sum(map(len, by_file(folder).values())) - len(late)


@pytest.mark.parametrize("rows_max", [1, 10_000])
def test_the_quote_in_force_is_known_in_every_slice(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    monkeypatch.setattr("apps.market.archive.reading.GROUP_ROWS", 8)
    whole = archives.rows(folder.root, "quotes").filter(pl.col("symbol") == SYMBOLS[0])
    compared = 0
    for tapes in read_tapes(folder, rows_max=rows_max):
        tape = tapes.get(SYMBOLS[0])
        for ts in [] if tape is None else tape.ts.tolist():
            assert tape is not None
            before = whole.filter(pl.col("ts") <= ts)
            quote = tape.quotes.at(ts) if tape.quotes else None
            assert (quote is None) == (not len(before))
            if quote is not None:
                row = before.row(-1, named=True)
                assert (quote.ts_event, quote.bid, quote.ask) == (row["ts"], row["bid"], row["ask"])
                compared += 1
    assert compared > 50


def test_ids_are_read_by_row_and_by_range(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.market.archive.blocks.GROUP_ROWS", 7)
    end = DAY_START_MS + archives.DAY_MS
    expected = [row[4] for row in by_file(folder)[SYMBOLS[0]] if row[0] < end]
    tape = next(read_tapes(folder, quotes=False, symbols=[SYMBOLS[0]], to_ms=end))[SYMBOLS[0]]
    assert [tape.trade_id[row] for row in range(len(tape))] == expected
    assert tape.trade_id[-1] == expected[-1]
    assert texts_of(tape.cut(3, 6)) == expected[3:6]
    assert tape.cut(5, 9).trade_id[0] == expected[5]
    with pytest.raises(IndexError):
        tape.trade_id[len(tape)]


def cover(folder: Folder, runs: list[tuple[int, int, str, str]]) -> None:
    columns = list(SCHEMAS[COVERAGE])
    frame = pl.DataFrame(runs, schema=SCHEMAS[COVERAGE], orient="row")
    assert frame.columns == columns
    write_table(folder.file(COVERAGE, FIRST_DAY, SYMBOLS[0]), frame)


def repaired(tmp_path: Path, *, mended: bool) -> Folder:
    """Two minutes of one symbol; REST told of the second one twice."""
    minute = START_MS // 60_000
    rows = [
        # ts, price, entry, row, origin
        (START_MS, 10, 1, 0, tables.STREAM),
        (START_MS + 60_000, 11, 2, 0, tables.STREAM),
        (START_MS + 60_000, 12, 3, 0, tables.REST),
        (START_MS + 61_000, 13, 4, 0, tables.REST),
        (START_MS + 61_000, 14, 4, 1, tables.REST),
        (START_MS + 120_000, 15, 5, 0, tables.STREAM),
    ]
    frame = pl.DataFrame(rows, schema=["ts", "price", "entry_ms", "row", "origin"], orient="row").with_columns(
        quantity=pl.lit(1), side=pl.lit(1), trade_id=pl.lit(""), ts_init=pl.lit(0), entry_sequence=pl.lit(0),
        late=pl.lit(False),
    )  # fmt: skip
    folder = Folder(tmp_path, "mended")
    write_table(
        folder.file(TRADES, FIRST_DAY, SYMBOLS[0]), frame.select(pl.col(n).cast(k) for n, k in SCHEMAS[TRADES].items())
    )
    write_meta(folder, Meta("live", "live", "test", {SYMBOLS[0]: ROW}))
    status = "backfilled" if mended else "unproven"
    cover(folder, [(minute, minute, "proven", ""), (minute + 1, minute + 1, status, "no_pong")])
    return folder


@pytest.mark.parametrize(
    ("mended", "asked", "prices", "unproven"),
    [
        (True, True, [10, 13, 14, 15], []),
        (True, False, [10, 11, 15], [1]),
        (False, True, [10, 11, 15], [1]),
    ],
    ids=["the newest of REST replaces what was received", "or not, if not wanted", "and not if the repair was refused"],
)
def test_a_repaired_minute_is_what_rest_told(
    tmp_path: Path, mended: bool, asked: bool, prices: list[int], unproven: list[int]
) -> None:
    (tapes,) = read_tapes(repaired(tmp_path, mended=mended), repaired=asked)
    tape = tapes[SYMBOLS[0]]
    assert tape.price.tolist() == prices
    assert list(tape.unproven) == [(START_MS // 60_000 + minute, "no_pong") for minute in unproven]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"symbols": ["NONEUSDT"]}, r"holds no NONEUSDT \(it has AAAUSDT, BBBUSDT\)"),
        (
            {"from_ms": DAY_START_MS - 5 * archives.DAY_MS, "to_ms": DAY_START_MS},
            f"no trades of AAAUSDT, BBBUSDT from 2024-09-29 to 2024-10-03 .it has {FIRST_DAY} to {SECOND_DAY}",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_words(folder: Folder, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        read_tapes(folder, **asked)


def test_an_archive_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="there is no archive 'other'"):
        read_tapes(Folder(tmp_path, "other"))


# --- recordings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_max", [1, 100, 10_000_000])
def test_a_recording_gives_the_same_as_its_import(recording: Path, imported: Folder, rows_max: int) -> None:
    found = joined(read_csv([recording], rows_max=rows_max))
    assert found == joined(read_tapes(imported)) == by_file(imported)
    assert set(found) == set(INSTRUMENTS)


def write_csv(
    path: Path, rows: list[str], header: str = "symbol,time_ms,trade_id,aggressor_side,price,quantity"
) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    beside = path.with_name(path.name.removesuffix(".csv") + ".instruments.json")
    beside.write_text(json.dumps({"AAAUSDT": ROW}))
    return path


GOOD = "AAAUSDT,1700000000000,1,buy,1.5,2"
BAD = [
    ([GOOD, "AAAUSDT,1699999999999,2,buy,1.5,2"], ":3: time goes backwards"),
    ([GOOD, "AAAUSDT,1700000000001,1,buy,1.5,2"], ":3: "),
    (["AAAUSDT,1700000000000,1,buy,-1.5,2"], ":2: price '-1.5' is negative"),
    (["AAAUSDT,1700000000000,1,buy,0,2"], ":2: price 0 is zero"),
    (["AAAUSDT,1700000000000,1,buy,1.5,0.00"], ":2: quantity 0.00 is zero"),
    (["AAAUSDT,1700000000000,1,buy,1.50001,2"], ":2: price 1.50001 has more than the instrument's 4 decimals"),
    (["AAAUSDT,1700000000000,1,buy,1.5,2.001"], ":2: quantity 2.001 has more than the instrument's 2 decimals"),
    (["BBBUSDT,1700000000000,1,buy,1.5,2"], ":2: "),
    (["AAAUSDT,1700000000000,1,buy,1.5"], ":2: "),
    (["AAAUSDT,1700000000000,1,hold,1.5,2"], ":2: aggressor_side 'hold' is neither buy nor sell"),
    (["AAAUSDT,noon,1,buy,1.5,2"], ":2: time_ms 'noon' is not a positive whole number"),
    ([], ":1: "),
]


@pytest.mark.parametrize(("rows", "words"), BAD, ids=[words or "none" for _, words in BAD])
def test_a_bad_recording_is_refused_with_its_row(tmp_path: Path, rows: list[str], words: str) -> None:
    path = write_csv(tmp_path / "bad.csv", rows)
    with pytest.raises(RecordingError) as refused:
        read_csv([path])
    assert f"bad.csv{words}" in str(refused.value)
    with pytest.raises(RecordingError):
        carrying.import_csv(tmp_path / "archive", [path])
    assert not (tmp_path / "archive").exists()


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "bad.csv", [GOOD], header="symbol,time_ms,trade_id,price,quantity")
    with pytest.raises(RecordingError, match=r"bad\.csv:1: "):
        read_csv([path])


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "torn.csv.gz"
    path.write_bytes(gzip.compress(f"{HEADER}\n{GOOD}\n".encode())[:-9])
    with pytest.raises(RecordingError, match="cannot be read"):
        read_csv([path])


def test_a_trade_id_that_stands_in_two_files_is_refused(tmp_path: Path) -> None:
    first, second = (write_csv(tmp_path / f"{name}.csv", [GOOD]) for name in ("a", "b"))
    with pytest.raises(RecordingError):
        read_csv([first, second])
