"""Market data taken in and given out: twice is once, out and in again is equal to the byte, what is bad stays out."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from apps.engine.recording import HEADER
from apps.market.archive import carrying, exporting, pruning
from apps.market.archive.layout import (
    COVERAGE,
    QUOTES,
    TRADES,
    ArchiveError,
    Folder,
    Meta,
    locked,
    read_meta,
    write_meta,
)
from tests.market import archives
from tests.market.archives import FIRST_DAY, SECOND_DAY, SYMBOLS, make_stream
from tests.road.recordings import make_recording

ROW = {
    "baseAsset": "AAA", "quoteAsset": "USDT", "baseAssetPrecision": 2, "quotePrecision": 4, "takerCommission": "0.0005",
}  # fmt: skip


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return make_recording(tmp_path / "in", minutes=15)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The archive of a feed, with quotes and coverage."""
    place = tmp_path_factory.mktemp("made")
    archives.write_segments(place / "segments", make_stream())
    archives.move_all(place / "archive", place / "segments")
    folder = Folder(place / "archive", "test")
    write_meta(folder, Meta("live", "live", "a feed", {name: {**ROW} for name in SYMBOLS}))
    run = pl.DataFrame({"first_minute": [1], "last_minute": [9], "status": ["proven"], "reason": [""]})
    path = folder.file(COVERAGE, FIRST_DAY, SYMBOLS[0])
    path.parent.mkdir(parents=True)
    run.write_parquet(path)
    return folder


# --- CSV --------------------------------------------------------------------------------------------------------------


def text_of(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def test_a_recording_goes_in_once_however_often_it_is_imported(recording: Path, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    first = carrying.import_csv(root, [recording])
    held = archives.digests(root)
    assert (first.trades, first.files, first.written, first.days) == (len(text_of(recording)) - 1, 4, 4, 1)
    again = carrying.import_csv(root, [recording])
    assert (again.trades, again.written) == (first.trades, 0)
    assert archives.digests(root) == held


def test_a_recording_comes_out_as_it_went_in(recording: Path, tmp_path: Path) -> None:
    carrying.import_csv(tmp_path / "archive", [recording])
    folder = Folder(tmp_path / "archive", "recording")
    out = tmp_path / "out.csv.gz"
    assert exporting.export_csv(folder, out) == len(text_of(recording)) - 1
    assert text_of(out) == text_of(recording)
    carrying.import_csv(tmp_path / "second", [out], key="recording")
    assert archives.digests(tmp_path / "second") == archives.digests(tmp_path / "archive")
    before = out.read_bytes()
    exporting.export_csv(folder, out)
    assert out.read_bytes() == before


def halves(recording: Path) -> list[Path]:
    rows = text_of(recording)[1:]
    beside = recording.with_name("recording.instruments.json").read_text()
    paths = []
    for name, part in (("a", rows[: len(rows) // 2 + 20]), ("b", rows[len(rows) // 2 :])):
        path = recording.with_name(f"{name}.csv")
        path.write_text("\n".join([HEADER, *part]) + "\n")
        path.with_name(f"{name}.instruments.json").write_text(beside)
        paths.append(path)
    return paths


def test_recordings_that_overlap_become_one(recording: Path, tmp_path: Path) -> None:
    for path in halves(recording):
        carrying.import_csv(tmp_path / "archive", [path], key="whole")
    exporting.export_csv(Folder(tmp_path / "archive", "whole"), tmp_path / "out.csv.gz")
    assert sorted(text_of(tmp_path / "out.csv.gz")) == sorted(text_of(recording))


def test_a_trade_id_that_stands_for_another_trade_is_refused(recording: Path, tmp_path: Path) -> None:
    first, second = halves(recording)
    carrying.import_csv(tmp_path / "archive", [first], key="whole")
    held = archives.digests(tmp_path / "archive")
    shared = second.read_text().splitlines()[1]
    symbol, ts, trade_id, side, price, quantity = shared.split(",")
    second.write_text(f"{HEADER}\n{symbol},{ts},{trade_id},{side},{price},1{quantity}\n")
    with pytest.raises(ArchiveError, match=f"{symbol}: trade {trade_id} is another one in the archive"):
        carrying.import_csv(tmp_path / "archive", [second], key="whole")
    assert archives.digests(tmp_path / "archive") == held


def test_an_instrument_that_counts_otherwise_now_is_refused(recording: Path, tmp_path: Path) -> None:
    carrying.import_csv(tmp_path / "archive", [recording])
    beside = recording.with_name("recording.instruments.json")
    specs = json.loads(beside.read_text())
    specs["AAAUSDT"]["quotePrecision"] += 1
    beside.write_text(json.dumps(specs))
    with pytest.raises(ArchiveError, match="AAAUSDT has 5 decimals of prices, what is archived has 4"):
        carrying.import_csv(tmp_path / "archive", [recording])


def test_a_recording_does_not_go_into_the_archive_of_a_feed(made: Folder, recording: Path) -> None:
    with pytest.raises(ArchiveError, match="test is the archive of a live feed"):
        carrying.import_csv(made.root, [recording], key="test")


def test_a_feed_comes_out_as_a_recording_with_every_trade_named(made: Folder, tmp_path: Path) -> None:
    exporting.export_csv(made, tmp_path / "out.csv.gz")
    carried = carrying.import_csv(tmp_path / "archive", [tmp_path / "out.csv.gz"])
    assert carried.trades == len(archives.rows(made.root))


def test_days_and_symbols_can_be_chosen(made: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out.csv.gz"
    exporting.export_csv(made, out, symbols=[SYMBOLS[1]], first_day=SECOND_DAY)
    expected = archives.rows(made.root).filter((pl.col("symbol") == SYMBOLS[1]) & (pl.col("day") == SECOND_DAY))
    assert len(text_of(out)) - 1 == len(expected) > 0
    with pytest.raises(ArchiveError, match="has no day files of NONEUSDT"):
        exporting.export_csv(made, out, symbols=["NONEUSDT"])
    with pytest.raises(ArchiveError, match="has no day files in this time"):
        exporting.export_csv(made, out, first_day="2030-01-01")


# --- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_arrives_equal_byte_for_byte(made: Folder, tmp_path: Path) -> None:
    count = exporting.export_archive(made, tmp_path / "made.tar")
    (carried,) = carrying.import_archive(tmp_path / "there", tmp_path / "made.tar")
    assert count == carried.files == carried.written == len(archives.digests(made.root)) == 9
    assert archives.digests(tmp_path / "there") == archives.digests(made.root)
    assert read_meta(Folder(tmp_path / "there", "test")) == read_meta(made)
    exporting.export_archive(Folder(tmp_path / "there", "test"), tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "made.tar").read_bytes()


@pytest.mark.parametrize("which", ["root", "folder"])
def test_an_archive_is_taken_from_a_folder_too(made: Folder, tmp_path: Path, which: str) -> None:
    source = made.root if which == "root" else made.path
    (first,), (again,) = (carrying.import_archive(tmp_path, source) for _ in range(2))
    assert (first.written, again.written) == (9, 0)
    assert archives.digests(tmp_path) == archives.digests(made.root)


def test_an_archive_joins_what_is_here_already(made: Folder, tmp_path: Path) -> None:
    """Each side has half of the trades of one file, another file, and coverage of its own."""
    carrying.import_archive(tmp_path, made.root)
    here = Folder(tmp_path, "test")
    path = here.file(TRADES, FIRST_DAY, SYMBOLS[0])
    whole = pl.read_parquet(path)
    whole.head(10).write_parquet(path)
    here.file(QUOTES, FIRST_DAY, SYMBOLS[1]).unlink()
    covered = here.file(COVERAGE, FIRST_DAY, SYMBOLS[0])
    covered.write_bytes(covered.read_bytes())
    (carried,) = carrying.import_archive(tmp_path, made.root)
    assert carried.written == 2
    assert archives.digests(tmp_path) == archives.digests(made.root)


def bad_tar(name: str, content: bytes = b"x") -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        with tarfile.open(place / "bad.tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        return place / "bad.tar"

    return make


def folder_with(**files: bytes) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        for name, content in files.items():
            path = place / "bad" / name.replace("__", "/").replace("_json", ".json").replace("_parquet", ".parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return place / "bad"

    return make


def packed(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


META = json.dumps(
    {"layout": 1, "source": "live", "kind": "live", "description": "x", "instruments": {"AAAUSDT": ROW}}
).encode()
ONE: dict[str, Any] = {
    "ts": 1_700_000_000_000, "price": 5, "quantity": 5, "side": 1, "trade_id": "1", "ts_init": 0, "entry_ms": 1,
    "entry_sequence": 0, "row": 0, "late": False, "origin": 0,
}  # fmt: skip
KINDS_OF_ONE = {"side": pl.Int8, "origin": pl.Int8}
DAY = "trades__2023-11-14__AAAUSDT_parquet"


def one(**values: Any) -> pl.DataFrame:
    return pl.DataFrame([{**ONE, **values}], schema_overrides=KINDS_OF_ONE)


BAD: list[tuple[str, Callable[[Path], Path]]] = [
    ("does not exist", lambda place: place / "nowhere.tar"),
    ("is neither a folder nor a tar file", bad_tar("", b"")),
    (r"holds \.\./evil, which no export writes", bad_tar("../evil")),
    ("which no export writes", bad_tar("key/trades/2023-11-14/../../evil.parquet")),
    ("is no name for an archive", bad_tar("-rf/archive.json")),
    ("holds no archive", folder_with(readme_json=b"{}")),
    ("is not the description of an archive", folder_with(archive_json=b"{")),
    ("has layout 2, this version reads 1", folder_with(archive_json=META.replace(b'"layout": 1', b'"layout": 2'))),
    ("cannot be read", folder_with(**{"archive_json": META, DAY: b"PAR1"})),
    ("cannot be read", folder_with(**{"archive_json": META, DAY: packed(one())[:-30]})),
    ("has other columns than trades have", folder_with(**{"archive_json": META, DAY: packed(one().drop("late"))})),
    ("holds times that are not of", folder_with(**{"archive_json": META, DAY: packed(one(ts=5))})),
    ("row 1 has the price 0", folder_with(**{"archive_json": META, DAY: packed(one(price=0))})),
    ("row 1 has the quantity -1", folder_with(**{"archive_json": META, DAY: packed(one(quantity=-1))})),
    (
        "times go backwards",
        folder_with(**{"archive_json": META, DAY: packed(pl.concat([one(), one(ts=1_699_999_999_999)]))}),
    ),
    ("is not among the instruments", folder_with(**{"archive_json": META, DAY.replace("AAA", "BBB"): packed(one())})),
]


@pytest.mark.parametrize(("words", "make"), BAD, ids=[f"{n}-{row[0][:30]}" for n, row in enumerate(BAD)])
def test_what_is_no_archive_is_refused_in_words(tmp_path: Path, words: str, make: Callable[[Path], Path]) -> None:
    (tmp_path / "in").mkdir()
    if "neither" in words:
        (tmp_path / "in" / "bad.tar").write_bytes(b"not a tar")
        source = tmp_path / "in" / "bad.tar"
    else:
        source = make(tmp_path / "in")
    with pytest.raises(ArchiveError, match=words):
        carrying.import_archive(tmp_path / "archive", source)
    assert not list((tmp_path / "archive").rglob("*.parquet"))
    assert not list(tmp_path.rglob("evil*"))


def test_the_archive_of_another_source_under_this_name_is_refused(made: Folder, tmp_path: Path) -> None:
    write_meta(Folder(tmp_path, "test"), Meta("synthetic:1", "synthetic", "other", {}))
    with pytest.raises(ArchiveError, match="test is an archive of synthetic:1 here and of live there"):
        carrying.import_archive(tmp_path, made.root)


def test_an_archive_that_is_being_written_to_is_refused(made: Folder, tmp_path: Path) -> None:
    with locked(Folder(tmp_path, "test")), pytest.raises(ArchiveError, match="another process is writing"):
        carrying.import_archive(tmp_path, made.root)


def test_its_own_archive_is_refused(made: Folder) -> None:
    with pytest.raises(ArchiveError, match="own archive"):
        carrying.import_archive(made.root, made.root)


def test_days_of_one_archive_can_be_removed(made: Folder, tmp_path: Path) -> None:
    carrying.import_archive(tmp_path, made.root)
    folder = Folder(tmp_path, "test")
    held = archives.digests(tmp_path)
    would = pruning.prune_key(folder, before_day=SECOND_DAY, dry_run=True)
    assert archives.digests(tmp_path) == held
    assert pruning.prune_key(folder, before_day=SECOND_DAY) == would
    assert would.day_files == 5
    assert set(archives.digests(tmp_path)) == {name for name in held if SECOND_DAY in name}
    assert not (folder.path / TRADES / FIRST_DAY).exists()
