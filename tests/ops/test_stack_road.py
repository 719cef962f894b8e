"""Whole stacks as a person starts them: in the foreground, two side by side, on servers of somebody else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.road.conftest import forget
from tests.road.stack import REPOSITORY, Stack, free_port, wait_until

pytestmark = [pytest.mark.road, pytest.mark.timeout(600)]


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[tuple[Stack, Stack]]:
    made = (Stack(tmp_path / "one", free_port()), Stack(tmp_path / "two", free_port()))
    yield made
    for one in made:
        forget(one)


def processes_of(stack: Stack) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CDB_DATA_DIR") == str(stack.folder):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_ctrl_c_in_the_foreground_stops_everything(stacks: tuple[Stack, Stack]) -> None:
    stack = stacks[0]
    command = [sys.executable, "manage.py", "stack", "up", "--port", str(stack.port)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=stack.environment, stdout=subprocess.PIPE, text=True) as person:
        assert person.stdout is not None
        lines = iter(person.stdout.readline, "")
        text = "".join(line for line in iter(lambda: next(lines), "  Ctrl-C stops it\n"))
        credentials = json.loads((stack.folder / "credentials.json").read_text())
        assert text.count(credentials["password"]) == 1
        assert f"url       http://127.0.0.1:{stack.port}/" in text
        assert stack.status()["healthy"]
        person.send_signal(signal.SIGINT)
        assert person.wait(timeout=60) == 0
    assert processes_of(stack) == []


def test_two_stacks_run_side_by_side_and_show_no_secret(stacks: tuple[Stack, Stack]) -> None:
    for stack in stacks:
        stack.up()
    for stack in stacks:
        assert stack.status()["healthy"]
        assert "already running" in stack.manage("stack", "up", "--detach", "--port", str(stack.port)).stdout
    secrets = [path.read_text().strip() for stack in stacks for path in (stack.folder / "secrets").iterdir()]
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if any(secret in line for secret in secrets)]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(json.loads((stacks[0].folder / "credentials.json").read_text())["flower_url"])
    stacks[0].down()
    assert processes_of(stacks[0]) == []
    assert stacks[1].status()["healthy"]


def test_servers_of_somebody_else_are_used_and_none_of_ours_is_started(
    stacks: tuple[Stack, Stack], servers: dict[str, str]
) -> None:
    stack = stacks[0]
    stack.extra = tuple((name, servers[name]) for name in ("DATABASE_URL", "REDIS_URL"))
    stack.up()
    names = {one["name"] for one in stack.status()["services"]}
    assert not names & {"postgres", "valkey"}
    assert not (stack.folder / "servers").exists()
    wait_until("the demo has read its market", lambda: stack.funnel()["processed"] > 0, seconds=60)
    stack.manage("stack", "restart")
    assert stack.status()["healthy"]
    stack.down()
    assert processes_of(stack) == []
