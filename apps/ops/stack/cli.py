"""`manage.py stack up|down|restart|status|logs|doctor|backup|restore`."""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from apps.ops.embedded.home import Home, Refusal, open_home, read_home
from apps.ops.stack import backup, doctor, status
from apps.ops.stack.manager import REPOSITORY, Manager
from apps.ops.stack.progress import Progress
from apps.ops.stack.runtime import Options, Runtime, block_fault, read_runtime
from apps.ops.stack.services import services
from apps.ops.stack.start import Started, check_replay, last_lines, start_stack
from apps.ops.stack.stop import stop_stack

EXIT_REFUSED = 2
RESTART_SECONDS = 30
GIVEN = ("DATABASE_URL", "REDIS_URL")


def _ask_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--new-session", action="store_true", help="end the session of the last start, begin another")
    parser.add_argument("--name", default="", help="name of a new session")
    parser.add_argument("--days", type=int, help="a new session ends by itself after so many days")


def main(arguments: Sequence[str]) -> int:
    """0 if it is as asked, 1 if the stack is not healthy, 2 with one line if something has to be put right first."""
    options = _parser().parse_args(arguments)
    os.umask(0o077)
    console = Console(highlight=False, soft_wrap=True)
    try:
        code: int = options.run(options, console)
    except Refusal as refusal:
        print(f"cdb: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="manage.py stack", description="Start, watch and stop all processes.")
    commands = parser.add_subparsers(required=True, metavar="up|down|restart|status|logs|doctor|backup|restore")

    def command(name: str, run: Callable[[argparse.Namespace, Console], int], words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words)
        made.set_defaults(run=run)
        return made

    up = command("up", _up, "start everything and stay until Ctrl-C")
    up.add_argument("--mode", choices=("demo", "live"), default="demo", help="market of this machine, or the real feed")
    up.add_argument("--replay", action="append", default=[], metavar="FILE[,FILE]", help="recorded trades to play")
    up.add_argument("--speed", type=_speed, help="event time per wall time")
    up.add_argument("--tier", type=str.upper, help="risk tier of the session")
    up.add_argument("--port", type=_port, default=os.environ.get("PORT") or "8000", help="port of the pages")
    up.add_argument("--seed", type=int, help="seed of the synthetic market and of paper noise")
    _ask_session(up)
    up.add_argument("--detach", action="store_true", help="return when everything is healthy")
    command("down", _down, "stop everything and leave no process")
    restart = command("restart", _restart, "stop and start one service, or everything with the same options")
    restart.add_argument("service", nargs="?")
    restart.add_argument("--tier", type=str.upper, help="risk tier of a new session")
    _ask_session(restart)
    state = command("status", _status, "say what runs; exit code 0 only if all of it is healthy")
    state.add_argument("--json", action="store_true")
    state.add_argument("--line", action="store_true", help="one sentence: must I act?")
    logs = command("logs", _logs, "print the end of one log or of all")
    logs.add_argument("service", nargs="?")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--lines", type=int, default=20)
    command("doctor", _doctor, "check this machine and the data directory, and say what to do")
    saving = command("backup", _backup, "write a backup of the database, also while everything runs")
    saving.add_argument("--to", type=Path, required=True, metavar="FILE", help="must not exist yet")
    loading = command("restore", _restore, "load a backup; the database of before is kept under another name")
    loading.add_argument("--from", type=Path, required=True, metavar="FILE", dest="source")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not math.isfinite(speed) or speed <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a speed such as 600")
    return speed


def data_directory() -> Path:
    return Path(os.environ.get("CDB_DATA_DIR", "").strip() or REPOSITORY / "var").absolute()


def _known() -> tuple[Home, Runtime] | None:
    """The data directory and what was started in it; None if nothing ever was."""
    root = data_directory()
    if not (root / "layout").exists():
        return None
    home = read_home(root)
    runtime = read_runtime(root)
    return (home, runtime) if runtime else None


def _running() -> tuple[Home, Runtime]:
    known = _known()
    if known is None or Manager(*known).pid() is None:
        raise Refusal(f"nothing is running in {data_directory()}: start it with `make demo`")
    return known


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Two starts, or a start and a stop, must not run into each other."""
    with (home.root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refusal(f"another start or stop is at work in {home.root}") from error
        yield


# --- up ---------------------------------------------------------------------------------------------------------------
def _up(arguments: argparse.Namespace, console: Console) -> int:
    files = tuple(str(Path(part).absolute()) for text in arguments.replay for part in text.split(",") if part)
    if files and arguments.mode == "live":
        raise Refusal("a replay has no real feed: use --mode demo")
    progress = Progress(console)
    if files:
        with progress.phase("reading the recording"):
            check_replay(files)
    _refuse_unfit(arguments)
    options = Options(
        arguments.mode, arguments.port, files, arguments.speed, arguments.tier, arguments.seed, arguments.new_session,
        arguments.name, arguments.days,
    )  # fmt: skip
    given = {name: os.environ[name] for name in GIVEN if os.environ.get(name)}
    home = open_home(data_directory())
    signal.signal(signal.SIGTERM, _interrupt)
    with _only_one(home):
        previous = read_runtime(home.root)
        if previous and Manager(home, previous).pid() is not None:
            return _already_running(home, previous, options)
        started = start_stack(home, options, previous, given, progress)
    _announce(started, progress)
    if arguments.detach:
        return 0 if started.status.healthy else 1
    return _stay(home, started.runtime, console)


def _refuse_unfit(arguments: argparse.Namespace) -> None:
    """Before anything is touched."""
    if fault := block_fault(arguments.name, arguments.days):
        raise Refusal(fault)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _already_running(home: Home, runtime: Runtime, options: Options) -> int:
    if runtime.options != options:
        raise Refusal(f"a stack with other options runs here at {runtime.url}: stop it first with `make down`")
    if not status.read_status(home, runtime).healthy:
        raise Refusal(f"a stack runs here at {runtime.url} and is not healthy: see `make status`, or `make down` first")
    print(f"already running: {runtime.url}")
    return 0


def _announce(started: Started, progress: Progress) -> None:
    console, credentials = progress.console, started.credentials
    console.print(f"  {'started in':<44} {progress.total_seconds:5.1f} s\n")
    for line in status.complaints(started.status):
        console.print(f"  not healthy: {line}")
    for name in ("url", "username", "password"):
        console.print(f"  {name:<9} {credentials[name]}")
    console.print("\n  make status says how it is, make logs what it does, make down stops it")


def _stay(home: Home, runtime: Runtime, console: Console) -> int:
    """Until Ctrl-C, which stops the stack, or until somebody else stops it."""
    console.print("  Ctrl-C stops it")
    manager = Manager(home, runtime)
    try:
        while manager.pid() is not None:
            time.sleep(1)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with console.status("stopping"), _only_one(home):
            stop_stack(home, runtime)
        console.print("stopped")
        return 0
    console.print("stopped from elsewhere")
    return 0


# --- down, restart ----------------------------------------------------------------------------------------------------
def _down(_arguments: argparse.Namespace, console: Console) -> int:
    known = _known()
    if known is None:
        console.print(f"nothing was started in {data_directory()}")
        return 0
    home, runtime = known
    began = time.monotonic()
    with console.status("stopping"), _only_one(home):
        killed = stop_stack(home, runtime)
    left = Manager(home, runtime).survivors()
    if left:
        raise Refusal(f"still alive: {', '.join(str(process.pid) for process in left)}")
    words = f", {killed} processes had to be killed" if killed else ""
    console.print(f"stopped in {time.monotonic() - began:.1f} s{words}")
    return 0


def _restart(arguments: argparse.Namespace, console: Console) -> int:
    home, runtime = _running()
    if arguments.service is None:
        options = _again(arguments, runtime)
        with _only_one(home):
            stop_stack(home, runtime)
            urls = {"DATABASE_URL": (runtime.postgres_port, runtime.database_url)}
            urls["REDIS_URL"] = (runtime.valkey_port, runtime.redis_url)
            given = {name: url for name, (port, url) in urls.items() if port is None}
            progress = Progress(console)
            _announce(started := start_stack(open_home(home.root), options, runtime, given, progress), progress)
        return 0 if started.status.healthy else 1
    if arguments.new_session:
        raise Refusal("a new session begins with everything: leave out the service")
    chosen = [one for one in services(runtime) if one.name == arguments.service]
    if not chosen:
        names = ", ".join(one.name for one in services(runtime))
        raise Refusal(f"there is no service {arguments.service}; there are {names}")
    manager = Manager(home, runtime)
    with console.status(f"restarting {arguments.service}"):
        manager.stop_services(chosen)
        manager.start_services(chosen)
        deadline = time.monotonic() + RESTART_SECONDS
        while next(one.state for one in manager.states() if one.name == arguments.service) != "RUNNING":
            if time.monotonic() > deadline:
                raise Refusal(f"{arguments.service} did not start{last_lines(home, arguments.service)}")
            time.sleep(0.1)
    console.print(f"{arguments.service} runs again")
    return 0


def _again(arguments: argparse.Namespace, runtime: Runtime) -> Options:
    """The options of the last start; with a new session what was asked of that."""
    _refuse_unfit(arguments)
    if arguments.new_session:
        tier = arguments.tier or runtime.tier
        return replace(runtime.options, tier=tier, new_session=True, name=arguments.name, days=arguments.days)
    if arguments.name or arguments.days is not None or arguments.tier:
        raise Refusal("a name, days and a tier are those of a new session: say --new-session")
    return runtime.options


# --- status, logs, doctor ---------------------------------------------------------------------------------------------
def _status(arguments: argparse.Namespace, console: Console) -> int:
    known = _known()
    if known is None:
        if arguments.json:
            print(json.dumps({"healthy": False, "services": [], "url": None, "exchange": {}}))
        else:
            console.print(f"nothing was started in {data_directory()}")
        return 1
    home, runtime = known
    if arguments.line:
        print(_sentence(home, runtime))
        return 0
    found = status.read_status(home, runtime)
    if arguments.json:
        print(json.dumps(status.as_json(found, runtime)))
    else:
        status.show(found, runtime, console)
    return 0 if found.healthy else 1


def _sentence(home: Home, runtime: Runtime) -> str:
    if Manager(home, runtime).pid() is None:
        return "Nothing is running."
    from apps.ops.stack.bootstrap import load_settings

    load_settings(home, runtime)
    from apps.ops.selectors.state import read_state

    return read_state(time.time_ns() // 1_000_000).sentence.line


def _logs(arguments: argparse.Namespace, _console: Console) -> int:
    folder = data_directory() / "logs"
    files = sorted(folder.glob("*.log"))
    chosen = [path for path in files if arguments.service in (None, path.stem)]
    if not chosen:
        raise Refusal(f"no such log; there are: {', '.join(path.stem for path in files) or 'none'}")
    follow = ["-F"] if arguments.follow else []
    os.execvp("tail", ["tail", "-n", str(arguments.lines), *follow, "--", *map(str, chosen)])  # noqa: S606


def _backup(arguments: argparse.Namespace, console: Console) -> int:
    known = _known()
    if known is None:
        raise Refusal(f"nothing was started in {data_directory()}: there is nothing to back up")
    with console.status("backing up"):
        size = backup.backup(*known, arguments.to.absolute())
    console.print(f"{arguments.to}: {size:,} bytes. Market data lies beside the database in {known[0].root}/segments")
    return 0


def _restore(arguments: argparse.Namespace, console: Console) -> int:
    known = _known()
    if known is None:
        raise Refusal(f"nothing was started in {data_directory()}: start once with `make demo`, then `make down`")
    with console.status("restoring"), _only_one(known[0]):
        before = backup.restore(*known, arguments.source.absolute())
    console.print(f"restored. The database of before is kept as {before}. The next start reconciles before it trades.")
    return 0


def _doctor(_arguments: argparse.Namespace, console: Console) -> int:
    return doctor.examine(data_directory(), console)
