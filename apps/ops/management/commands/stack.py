"""`manage.py stack`: listed among Django's commands, run without Django (see manage.py)."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from django.core.management.base import BaseCommand

from apps.ops.stack.manager import REPOSITORY


class Command(BaseCommand):
    help = "Start, watch and stop all processes: up, down, restart, status, logs, doctor."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, **options: Any) -> None:
        """In a process of its own: this one has read settings that a start is about to write."""
        command = [sys.executable, str(REPOSITORY / "manage.py"), "stack", *options["arguments"]]
        sys.exit(subprocess.run(command, check=False).returncode)
