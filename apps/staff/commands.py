"""What management commands share: wrong arguments are one line, as every wrong input here."""

from __future__ import annotations

import getpass
from typing import Any, Final, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

REFUSED: Final = 2


def person(name: str) -> str:
    """Who decides something at a terminal: who was named, or whose terminal it is. Raises `CommandError`."""
    try:
        return name.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise CommandError("your user has no name here: say who decides with --by", returncode=REFUSED) from error


class OneLineParser(CommandParser):
    """Also of the actions of a command: `manage.py feed status` belongs to `feed`."""

    def error(self, message: str) -> NoReturn:
        name = next(word for word in self.prog.split() if not word.endswith(".py"))
        self.exit(REFUSED, f"cdb: {name}: {message} (`manage.py {name} --help` tells more)\n")


class OneLineCommand(BaseCommand):
    """A command whose parser is a `OneLineParser`."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.__class__ = OneLineParser  # Django makes a parser of its own kind and leaves no other way
        return parser
