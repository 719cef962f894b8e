"""The archive of epochs: what the task does each minute, the ledger beside it, failures, retention and the command."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.engine.instrument_specs import InstrumentSpec
from apps.market import tasks
from apps.market.archive.covering import Run, read_coverage
from apps.market.archive.keeping import FINISHED, Kept, archive_due, archive_epoch, key_of
from apps.market.archive.layout import DAY_MS, Folder, locked, read_meta
from apps.market.archive.moving import SLICE_MS
from apps.market.archive.pruning import Pruned, prune
from apps.market.archive.reading import read_tapes
from apps.market.models import ArchivedShard, Coverage, FeedEpoch, ShardCursor
from apps.market.selectors import archive_failures
from tests import factories
from tests.market import archives
from tests.market.archives import FIRST_DAY, START_MS, SYMBOLS, WALL_MS, make_stream, never
from tests.road.recordings import make_recording

pytestmark = pytest.mark.django_db

STREAM = make_stream()
LATER_MS = WALL_MS + 24 * 3_600_000
LAST_ID = STREAM[-1][0]


@pytest.fixture
def epoch(tmp_path: Path, settings: Settings) -> FeedEpoch:
    """A feed of one shard whose stream was read, in a data directory of its own."""
    settings.SEGMENTS_DIR, settings.ARCHIVE_DIR = tmp_path / "segments", tmp_path / "archive"
    made = factories.FeedEpochFactory.create(shard_count=1)
    for symbol in SYMBOLS:
        instrument = factories.InstrumentFactory.create(source=made.source, symbol=symbol, price_decimals=2)
        factories.EpochInstrumentFactory.create(epoch=made, instrument=instrument, shard=0)
    factories.ShardCursorFactory.create(epoch=made, shard=0, seen_through=LAST_ID, replay_from=LAST_ID)
    archives.write_segments(settings.SEGMENTS_DIR, STREAM, epoch=made.pk)
    return made


def folder_of(epoch: FeedEpoch) -> Folder:
    return Folder(django_settings.ARCHIVE_DIR, key_of(epoch))


def due(now_ms: int = LATER_MS) -> Kept:
    return archive_due(
        root=django_settings.ARCHIVE_DIR, segments=django_settings.SEGMENTS_DIR, now_ms=now_ms, enough=never
    )


def flush(epoch: FeedEpoch) -> Kept:
    return archive_epoch(
        epoch=epoch,
        root=django_settings.ARCHIVE_DIR,
        segments=django_settings.SEGMENTS_DIR,
        now_ms=LATER_MS,
        enough=never,
        whole=True,
    )


def archive(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    out = StringIO()
    try:
        call_command("archive", *arguments, stdout=out)
    except SystemExit as stop:
        return int(str(stop.code)), out.getvalue()
    return 0, out.getvalue()


def told(*arguments: str) -> Any:
    code, text = archive(*arguments, "--json")
    assert code == 0
    return json.loads(text)


# --- each minute ------------------------------------------------------------------------------------------------------


def test_what_has_ended_leaves_the_segments(epoch: FeedEpoch) -> None:
    first = due()
    assert first.slices > 3
    assert first.trades > 100
    row = ArchivedShard.objects.get(epoch=epoch, shard=0)
    assert (row.trades, row.quotes, row.failures) == (first.trades, first.quotes, 0)
    assert row.moved_at == datetime.fromtimestamp(LATER_MS / 1000, UTC)
    assert due() == Kept()


def test_the_archive_says_itself_what_it_holds(epoch: FeedEpoch) -> None:
    due()
    meta = read_meta(folder_of(epoch))
    assert (meta.source, meta.kind) == (epoch.source, "synthetic")
    amounts = (Decimal("0.01"), Decimal(5), Decimal(2_000_000), Decimal(0), Decimal("0.0005"))
    assert meta.specs()["AAAUSDT"] == InstrumentSpec("AAAUSDT", "AAA", "USDT", 2, 2, *amounts)


def test_an_epoch_that_has_ended_is_finished_and_not_looked_at_again(epoch: FeedEpoch) -> None:
    FeedEpoch.objects.filter(pk=epoch.pk).update(ended_at=datetime.fromtimestamp(LATER_MS / 1000, UTC))
    due()
    assert not (folder_of(epoch).path / FINISHED).exists()  # its drain may be reading still
    due(LATER_MS + 600_000)
    assert (folder_of(epoch).path / FINISHED).exists()
    tapes = [tape for slices in read_tapes(folder_of(epoch)) for tape in slices.values()]
    assert sum(map(len, tapes)) == ArchivedShard.objects.get(epoch=epoch).trades
    assert not list(folder_of(epoch).parts.rglob("*.parquet"))
    assert due(LATER_MS + 660_000) == Kept()


def test_the_task_does_it(epoch: FeedEpoch) -> None:
    tasks.archive_feed()
    assert ArchivedShard.objects.get(epoch=epoch).trades > 100
    tasks.prune_archive()


def test_the_ledger_lies_beside_the_trades(epoch: FeedEpoch) -> None:
    minute = START_MS // 60_000
    instrument = epoch.members.get(instrument__symbol=SYMBOLS[0]).instrument
    for number in range(6):
        factories.BarFactory.create(epoch=epoch, instrument=instrument, minute=minute + number)
    for number, status in ((2, Coverage.Status.BACKFILLED), (3, Coverage.Status.UNPROVEN)):
        factories.CoverageFactory.create(
            epoch=epoch, instrument=instrument, minute=minute + number, status=status, reason="no_pong"
        )
    flush(epoch)
    assert read_coverage(folder_of(epoch), FIRST_DAY, SYMBOLS[0]) == [
        Run(minute, minute + 1, "proven", ""),
        Run(minute + 2, minute + 2, "backfilled", "no_pong"),
        Run(minute + 3, minute + 3, "unproven", "no_pong"),
        Run(minute + 4, minute + 5, "proven", ""),
    ]
    unproven = {mark for slices in read_tapes(folder_of(epoch)) for mark in slices[SYMBOLS[0]].unproven}
    assert unproven == {(minute + 3, "no_pong")}
    Coverage.objects.filter(minute=minute + 3).update(status=Coverage.Status.BACKFILLED)  # repaired afterwards
    flush(epoch)
    assert Run(minute + 2, minute + 3, "backfilled", "no_pong") in read_coverage(
        folder_of(epoch), FIRST_DAY, SYMBOLS[0]
    )


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_is_a_row_and_is_tried_again(epoch: FeedEpoch) -> None:
    """No folder can be made where a file lies: nobody may write there, root included."""
    place = folder_of(epoch).parts / "0"
    place.parent.mkdir(parents=True)
    place.write_text("in the way")
    for attempt in (1, 2):
        kept = due()
        assert kept.trades == 0
        assert len(kept.errors) == 1
        row = ArchivedShard.objects.get(epoch=epoch, shard=0)
        assert row.failures == attempt
        assert "File exists" in row.error
        assert archive_failures(epoch_id=epoch.pk) == attempt
    code, text = archive("status")
    assert code == 1
    assert "FAILED 2 times in a row" in text
    place.unlink()
    assert due().trades > 100
    assert ArchivedShard.objects.get(epoch=epoch, shard=0).failures == 0


def test_a_failing_shard_stops_no_other(epoch: FeedEpoch) -> None:
    FeedEpoch.objects.filter(pk=epoch.pk).update(shard_count=2)
    epoch.members.filter(instrument__symbol=SYMBOLS[1]).update(shard=1)
    archives.write_segments(django_settings.SEGMENTS_DIR, STREAM, epoch=epoch.pk, shard=1)
    place = folder_of(epoch).parts / "0"
    place.parent.mkdir(parents=True)
    place.write_text("in the way")
    assert due().trades > 0
    assert ArchivedShard.objects.get(epoch=epoch, shard=1).trades > 0


def test_a_folder_that_another_process_writes_to_is_left_alone(epoch: FeedEpoch) -> None:
    with locked(folder_of(epoch)):
        assert due() == Kept()
    assert due().trades > 100


# --- retention --------------------------------------------------------------------------------------------------------


def aged(days: int) -> None:
    """Make every segment look as if it had last been written to so long before LATER_MS."""
    seconds = (LATER_MS - days * DAY_MS) / 1000
    for path in django_settings.SEGMENTS_DIR.rglob("*.seg"):
        os.utime(path, (seconds, seconds))


def pruned(
    *, now_ms: int = LATER_MS, archive_days: int = 100_000, segment_days: int = 10, dry_run: bool = False
) -> Pruned:
    return prune(
        root=django_settings.ARCHIVE_DIR,
        segments=django_settings.SEGMENTS_DIR,
        now_ms=now_ms,
        archive_days=archive_days,
        segment_days=segment_days,
        dry_run=dry_run,
    )


def segments() -> int:
    return len(list(django_settings.SEGMENTS_DIR.rglob("*.seg")))


@pytest.mark.parametrize(
    ("archived", "ended", "days", "replayed", "left"),
    [
        (True, True, 11, True, 0),
        (False, True, 11, True, 1),
        (True, False, 11, True, 1),
        (True, True, 9, True, 1),
    ],
    ids=["archived and old", "not archived", "the newest of a running feed", "young"],
)
def test_segments_go_when_they_are_archived_and_old(
    epoch: FeedEpoch, archived: bool, ended: bool, days: int, replayed: bool, left: int
) -> None:
    if archived:
        flush(epoch)
    if ended:
        FeedEpoch.objects.filter(pk=epoch.pk).update(ended_at=timezone.now() - timedelta(days=1))
    aged(days)
    would = pruned(dry_run=True)
    assert segments() == 1
    assert pruned() == would
    assert segments() == left == 1 - would.segment_files


def test_a_running_feed_gives_up_older_segments_once_they_were_replayed(epoch: FeedEpoch) -> None:
    path = next(django_settings.SEGMENTS_DIR.rglob("*.seg"))
    path.with_name(f"{LATER_MS:015d}-000000-1.seg").write_bytes(b"")
    flush(epoch)
    aged(11)
    ShardCursor.objects.filter(epoch=epoch).update(replay_from="0-0")
    assert pruned().segment_files == 0
    ShardCursor.objects.filter(epoch=epoch).update(replay_from=LAST_ID)
    assert pruned().segment_files == 1
    assert not path.exists()
    assert flush(epoch).errors == ()


def test_days_of_a_feed_go_by_their_date_and_recordings_stay(epoch: FeedEpoch, tmp_path: Path) -> None:
    flush(epoch)
    told("import", str(make_recording(tmp_path, minutes=5)))
    now_ms = archives.START_MS + 3 * DAY_MS
    found = prune(
        root=django_settings.ARCHIVE_DIR,
        segments=django_settings.SEGMENTS_DIR,
        now_ms=now_ms,
        archive_days=3,
        segment_days=10,
    )
    assert found.day_files == 0
    found = prune(
        root=django_settings.ARCHIVE_DIR,
        segments=django_settings.SEGMENTS_DIR,
        now_ms=now_ms,
        archive_days=2,
        segment_days=10,
    )
    assert found.day_files == 4
    assert FIRST_DAY not in folder_of(epoch).days("trades")
    assert list(Folder(django_settings.ARCHIVE_DIR, "recording").files())


def test_days_of_a_replay_go_by_their_age(epoch: FeedEpoch) -> None:
    FeedEpoch.objects.filter(pk=epoch.pk).update(kind=FeedEpoch.Kind.REPLAY)
    epoch.refresh_from_db()
    flush(epoch)
    written_ms = int(next(folder_of(epoch).files())[3].stat().st_mtime * 1000)
    assert (
        prune(
            root=django_settings.ARCHIVE_DIR,
            segments=django_settings.SEGMENTS_DIR,
            now_ms=written_ms + DAY_MS // 2,
            archive_days=1,
            segment_days=10,
        ).day_files
        == 0
    )
    assert (
        prune(
            root=django_settings.ARCHIVE_DIR,
            segments=django_settings.SEGMENTS_DIR,
            now_ms=written_ms + 2 * DAY_MS,
            archive_days=1,
            segment_days=10,
        ).day_files
        == 8
    )


# --- the command ------------------------------------------------------------------------------------------------------


def test_status_says_what_is_there_and_how_far_behind_it_is(epoch: FeedEpoch) -> None:
    assert "nothing is archived" in archive("status")[1]
    due()
    found = told("status")
    (key,), (shard,) = found["keys"], found["shards"]
    assert key["key"] == shard["key"] == key_of(epoch)
    assert key["waiting_files"] > 0
    assert 0 < shard["behind_ms"] <= SLICE_MS
    told("flush")
    found = told("status")
    assert found["keys"][0]["waiting_files"] == 0
    assert found["keys"][0]["trades"] == found["shards"][0]["trades"] > 100
    assert found["shards"][0]["behind_ms"] == 0
    assert key_of(epoch) in archive("status")[1]


def test_import_and_export_speak_of_what_they_did(epoch: FeedEpoch, tmp_path: Path) -> None:
    path = make_recording(tmp_path, minutes=5)
    (imported,) = told("import", str(path), "--name", "mine")["imported"]
    assert imported["key"] == "mine"
    assert told("export", "mine", str(tmp_path / "out.csv"))["trades"] == imported["trades"]
    assert told("export", "mine", str(tmp_path / "out.tar"))["files"] == imported["files"]
    again = told("import", str(tmp_path / "out.tar"), "--root", str(tmp_path / "other"))
    assert again["imported"][0]["trades"] == imported["trades"]
    assert f"{imported['trades']:,} trades" in archive("import", str(path), "--name", "mine")[1]
    assert told("prune", "--dry-run")["dry_run"] is True


REFUSED = [
    (["import", "none.csv"], 1, "No such file or directory"),
    (["import", "none.tar"], 2, "none.tar does not exist"),
    (["import", "a.csv", "b.tar"], 2, "import CSV files and archives in two calls"),
    (["import", "b.tar", "--name", "x"], 2, "--name and --instruments are for CSV files"),
    (["export", "none", "out.tar"], 2, "there is no archive 'none'"),
    (["export", "../evil", "out.tar"], 2, "is no name for an archive"),
    (["export", "none", "out.zip"], 2, "its name must end in .tar, .csv or .csv.gz"),
    (["export", "none", "out.tar", "--from", "yesterday"], 2, "'yesterday' is not a day such as 2026-11-21"),
    (["prune", "--key", "x"], 2, "--key and --before go together"),
    (["prune", "--key", "x", "--before", "2026-13-01"], 2, "'2026-13-01' is not a day"),
    (["prune", "--key", "none", "--before", "2026-01-01"], 2, "there is no archive 'none'"),
    (["flush", "--epoch", "999999"], 2, "there is no such epoch"),
    (["flush"], 2, "no feed is running"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], settings: Settings,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings.ARCHIVE_DIR = tmp_path / "archive"
    monkeypatch.chdir(tmp_path)
    assert archive(*arguments)[0] == code
    line = capsys.readouterr().err
    assert line.startswith("cdb: archive: ")
    assert words in line
    assert line.count("\n") == 1
