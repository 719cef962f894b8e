"""The web process by itself: what it answers while what it stands on is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.live.conftest import WebServer, free_port

NOWHERE = "postgresql://canary:canary@127.0.0.1:1/canary"


def asked(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_without_a_database_health_says_so_instead_of_failing_itself(
    servers: dict[str, str], static_files: None, tmp_path: Path
) -> None:
    server = WebServer(free_port(), tmp_path / "web.log", database_url=NOWHERE)
    server.start()
    try:
        status, body = asked(f"{server.url}/health")
    finally:
        server.stop()
    assert (status, body["healthy"]) == (503, False)
    assert body["parts"] == {"database": {"ok": False, "effect": "does not answer", "age_s": None}}
    assert "canary" not in json.dumps(body)


def test_without_a_database_the_command_line_says_that_nothing_is_known(servers: dict[str, str]) -> None:
    program = [sys.executable, "manage.py", "status", "--line"]
    answer = subprocess.run(
        program, env={**os.environ, "DATABASE_URL": NOWHERE}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("PostgreSQL does not answer, so nothing is known: ")
    assert len(answer.stderr.splitlines()) == 1
