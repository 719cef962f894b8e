"""`manage.py archive status|flush|import|export|prune`: market data on disk."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NoReturn

from django.conf import settings
from django.db import DatabaseError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from apps.engine.instrument_specs import RecordingError
from apps.market.archive import carrying, exporting, pruning, showing, standing
from apps.market.archive.keeping import Kept, archive_epoch
from apps.market.archive.layout import ArchiveError, Folder, checked_key, day_start_ms
from apps.market.archive.recordings import read_instruments
from apps.market.models import FeedEpoch
from apps.market.selectors import current_epoch
from apps.staff.commands import OneLineCommand, OneLineParser

WIDTH: Final = 160  # of what goes into a file or another program
HELP: Final = {
    "status": "what is archived, how far behind the feed it is; exit code 1 if archiving fails",
    "flush": "put everything that was read so far into day files now, also of days that are not over",
    "import": "take in CSV recordings, or the archive of another machine (a folder or a tar file)",
    "export": "write an archive as a tar file for another machine, or its trades as a CSV recording",
    "prune": "remove what is past its time",
}


class Command(OneLineCommand):
    help = "Look at archived market data, take it in, give it out, remove what is past its time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="|".join(HELP), parser_class=OneLineParser
        )
        parts = {name: actions.add_parser(name, help=words, description=words) for name, words in HELP.items()}
        for part in parts.values():
            part.add_argument("--json", action="store_true", help="one JSON object")
            part.add_argument("--root", type=Path, help="another archive than that of the data directory")
        parts["flush"].add_argument("--epoch", type=int, help="the running one if not given")
        taken = parts["import"]
        taken.add_argument("sources", nargs="+", type=Path, metavar="FILE", help="*.csv, *.csv.gz, *.tar or a folder")
        taken.add_argument("--name", default="", help="of the archive that CSV files become")
        taken.add_argument("--instruments", type=Path, help="instead of the .instruments.json beside each CSV file")
        given = parts["export"]
        given.add_argument("key", help="see `archive status`")
        given.add_argument("target", type=Path, metavar="FILE", help="*.tar, *.csv or *.csv.gz")
        given.add_argument("--symbols", nargs="+", metavar="SYMBOL")
        given.add_argument("--from", dest="first", default="", metavar="DAY", help="such as 2026-11-21")
        given.add_argument("--to", dest="last", default="", metavar="DAY", help="included")
        removed = parts["prune"]
        removed.add_argument("--key", help="of this archive only, whatever kind it is; needs --before")
        removed.add_argument("--before", default="", metavar="DAY", help="the first day that stays")
        removed.add_argument("--dry-run", action="store_true", help="only say what would be removed")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        act: dict[str, Callable[[dict[str, Any]], int]] = {
            "status": self._status,
            "flush": self._flush,
            "import": self._import,
            "export": self._export,
            "prune": self._prune,
        }
        options["root"] = options["root"] or settings.ARCHIVE_DIR
        try:
            code = act[action](options)
        except (ArchiveError, RecordingError) as error:
            _refuse(str(error), 2)
        except OSError as error:
            _refuse(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
        except DatabaseError as error:
            _refuse(f"the database does not answer: {str(error).splitlines()[0]}", 1)
        if code:
            sys.exit(code)

    # --- the actions ------------------------------------------------------------------------------------------------

    def _status(self, options: dict[str, Any]) -> int:
        try:
            shards = standing.behind()
        except DatabaseError:
            shards = None  # the files can be looked at without it
        found = standing.Standing(str(options["root"]), standing.held(options["root"]), shards)
        self._say(options, found.row(), lambda console: showing.show_standing(console, found))
        return 1 if found.failing else 0

    def _flush(self, options: dict[str, Any]) -> int:
        epoch = FeedEpoch.objects.filter(pk=options["epoch"]).first() if options["epoch"] else current_epoch()
        if epoch is None:
            raise ArchiveError("there is no such epoch" if options["epoch"] else "no feed is running: name an --epoch")
        kept: Kept = archive_epoch(
            epoch=epoch,
            root=options["root"],
            segments=settings.SEGMENTS_DIR,
            now_ms=time.time_ns() // 1_000_000,
            enough=lambda: False,
            whole=True,
        )
        self._say(options, asdict(kept), lambda console: showing.show_kept(console, kept))
        return 1 if kept.errors else 0

    def _import(self, options: dict[str, Any]) -> int:
        sources: list[Path] = options["sources"]
        recordings = [path for path in sources if _is_csv(path)]
        if recordings and len(recordings) != len(sources):
            raise ArchiveError("import CSV files and archives in two calls")
        if not recordings and (options["name"] or options["instruments"]):
            raise ArchiveError("--name and --instruments are for CSV files: an archive says itself what it is")
        done: list[carrying.Carried] = []
        with _progress("import", quiet=options["json"]) as progress:
            if recordings:
                instruments = read_instruments(options["instruments"]) if options["instruments"] else None
                name, root = options["name"], options["root"]
                done = [carrying.import_csv(root, recordings, key=name, instruments=instruments, progress=progress)]
            else:
                for source in sources:
                    done += carrying.import_archive(options["root"], source, progress=progress)
        rows = [asdict(carried) for carried in done]
        self._say(options, {"imported": rows}, lambda console: showing.show_carried(console, done))
        return 0

    def _export(self, options: dict[str, Any]) -> int:
        target: Path = options["target"]
        folder = Folder(options["root"], checked_key(options["key"]))
        if target.suffix != carrying.TAR and not _is_csv(target):
            raise ArchiveError(f"{target}: its name must end in .tar, .csv or .csv.gz")
        for day in (options["first"], options["last"]):
            if day:
                day_start_ms(day)
        with _progress("export", quiet=options["json"]) as progress:
            write = exporting.export_csv if _is_csv(target) else exporting.export_archive
            count = write(
                folder,
                target,
                symbols=options["symbols"],
                first_day=options["first"],
                last_day=options["last"] or exporting.DAYS_END,
                progress=progress,
            )
        row = {"key": folder.key, "file": str(target), ("trades" if _is_csv(target) else "files"): count}
        self._say(options, row, lambda console: showing.show_exported(console, row))
        return 0

    def _prune(self, options: dict[str, Any]) -> int:
        if bool(options["key"]) != bool(options["before"]):
            raise ArchiveError("--key and --before go together; without them the retention settings decide")
        if options["key"]:
            day_start_ms(options["before"])
            folder = Folder(options["root"], checked_key(options["key"]))
            found = pruning.prune_key(folder, before_day=options["before"], dry_run=options["dry_run"])
        else:
            found = pruning.prune(
                root=options["root"],
                segments=settings.SEGMENTS_DIR,
                now_ms=time.time_ns() // 1_000_000,
                archive_days=settings.ARCHIVE_DAYS,
                segment_days=settings.SEGMENT_DAYS,
                dry_run=options["dry_run"],
            )
        row = asdict(found) | {"dry_run": options["dry_run"]}
        self._say(options, row, lambda console: showing.show_pruned(console, row))
        return 0

    def _say(self, options: dict[str, Any], found: dict[str, Any], show: Callable[[Console], None]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(found))
        else:
            width = None if self.stdout.isatty() else WIDTH
            show(Console(file=self.stdout, highlight=False, soft_wrap=True, width=width))  # type: ignore[arg-type]


def _is_csv(path: Path) -> bool:
    return path.name.endswith((".csv", ".csv.gz"))


@contextmanager
def _progress(words: str, *, quiet: bool) -> Iterator[carrying.Progress]:
    """A bar on stderr while it is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield carrying.nobody
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _refuse(words: str, code: int) -> NoReturn:
    print(f"cdb: archive: {words}", file=sys.stderr)
    sys.exit(code)
