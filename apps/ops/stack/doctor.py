"""Checks of this machine and of a data directory; each finding says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from apps.ops.embedded import postgres
from apps.ops.embedded.binaries import postgres_folder, valkey_program
from apps.ops.embedded.home import OWNER_SUFFIX, SECRET_NAMES, Home, Refusal, forsaken_servers, port_is_free, read_home
from apps.ops.stack.manager import REPOSITORY, Manager
from apps.ops.stack.runtime import read_runtime

DISK_BYTES_MIN = 2 * 1024**3
SETTINGS_SECONDS = 60

Finding = tuple[bool, str]
"""Whether it is well, and what was looked at or what to do."""


def examine(root: Path, console: Console) -> int:
    """Print every finding; 1 if one of them is a problem."""
    well = True
    for fine, words in _findings(root):
        well &= fine
        console.print(f"[{'green' if fine else 'red'}]{'ok' if fine else 'problem':<8}[/] {escape(words)}")
    return 0 if well else 1


def _findings(root: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    new_enough = sys.version_info >= (3, 11)
    yield new_enough, f"Python {version}" + ("" if new_enough else ": 3.11 or newer is needed")
    yield from _packages()
    yield from _disk(root)
    if not (root / "layout").exists():
        yield True, f"data directory {root}: not there yet, the first start makes it"
        yield _port(int(os.environ.get("PORT") or 8000))
        return
    try:
        home = read_home(root)
    except Refusal as refusal:
        yield False, str(refusal)
        return
    yield True, f"data directory {root}: layout is current"
    for folder, owner in forsaken_servers() if home.account else []:
        yield False, f"{owner} is gone; if you removed it: rm -r {folder} {folder}{OWNER_SUFFIX}"
    yield from _private_files(home)
    yield from _programs(home)
    yield from _stack(home)
    yield _settings(home)


def _packages() -> Iterator[Finding]:
    pins = re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)", (REPOSITORY / "requirements" / "base.txt").read_text())
    wrong = [f"{name} {_installed(name)} instead of {pin}" for name, pin in pins if _installed(name) != pin]
    yield (
        not wrong,
        (f"packages: {', '.join(wrong[:5])}: run `make install`" if wrong else f"{len(pins)} packages as pinned"),
    )


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _disk(root: Path) -> Iterator[Finding]:
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    words = f"disk: {free / 1024**3:.1f} GiB free at {there}"
    yield free >= DISK_BYTES_MIN, words if free >= DISK_BYTES_MIN else f"{words}: make room for 2 GiB at least"


def _private_files(home: Home) -> Iterator[Finding]:
    missing = [name for name in SECRET_NAMES if not (home.root / "secrets" / name).exists()]
    yield (
        not missing,
        (f"secrets: {', '.join(missing)} missing: restore them from a backup" if missing else "all secrets are there"),
    )
    private = [home.root / "secrets", *(home.root / "secrets").iterdir()]
    private += [path for name in ("runtime.json", "credentials.json") if (path := home.root / name).exists()]
    open_to_others = [path for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_to_others:
        yield False, f"{path} can be read by others: chmod go= {path}"
    if not open_to_others:
        yield True, f"{len(private)} private files are readable by their owner only"


def _programs(home: Home) -> Iterator[Finding]:
    try:
        postgres_folder(home), valkey_program(home)
        if postgres.cluster(home).exists():
            postgres.refuse_other_major(home)
        yield True, "PostgreSQL and Valkey: programs are there and fit the data"
    except Refusal as refusal:
        yield False, str(refusal)


def _stack(home: Home) -> Iterator[Finding]:
    try:
        runtime = read_runtime(home.root)
    except Refusal as refusal:
        yield False, str(refusal)
        return
    if runtime is None:
        yield _port(int(os.environ.get("PORT") or 8000))
        return
    manager = Manager(home, runtime)
    try:
        states = manager.states()
    except OSError:
        left = manager.survivors()
        yield not left, f"{len(left)} processes without a manager: run `make down`" if left else "nothing is running"
        yield _port(runtime.port)
        return
    for one in states:
        fine = one.state == "RUNNING"
        yield fine, f"{one.name}: {one.state}" + ("" if fine else f": see `make logs ARGS={one.name}`")


def _port(port: int) -> Finding:
    free = port_is_free(port)
    return free, f"port {port} is {'free' if free else 'busy: stop what uses it, or choose another one with PORT='}"


def _settings(home: Home) -> Finding:
    """The settings are read in a process of their own: they refuse what is unknown or malformed with one line."""
    answer = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=REPOSITORY,
        env={**os.environ, "CDB_DATA_DIR": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SETTINGS_SECONDS,
    )
    fine = answer.returncode == 0
    return fine, "settings and CDB_* variables are understood" if fine else answer.stderr.strip().splitlines()[-1]
