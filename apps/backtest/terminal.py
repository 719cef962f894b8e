"""What the commands of this app share: one-line refusals, and a bar of progress that no other program has to read."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from django.db import DatabaseError, InterfaceError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from apps.backtest.values import BacktestRefused
from apps.staff.commands import REFUSED

WIDTH: Final = 160  # of what goes into a file or another program


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """What cannot be done as asked ends the command with one line and exit code 2."""
    try:
        yield
    except BacktestRefused as refused:
        refuse(name, str(refused))
    except (DatabaseError, InterfaceError) as error:
        refuse(name, f"PostgreSQL does not do its part: {str(error).splitlines()[0]} (`manage.py stack up` starts one)")


def refuse(name: str, words: str, code: int = REFUSED) -> NoReturn:
    print(f"cdb: {name}: {words}", file=sys.stderr)
    sys.exit(code)


def person() -> str:
    """Who is at the shell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "the shell"


def console(output: Any) -> Console:
    """For the answer itself: as wide as the terminal, or wide enough for a file."""
    return Console(file=output, highlight=False, soft_wrap=True, width=None if output.isatty() else WIDTH)


def bar(*, quiet: bool, counted: bool = False) -> Progress:
    """On the error output, and only where a person looks at it."""
    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()]
    if counted:
        columns.insert(2, MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty())
