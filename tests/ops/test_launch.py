"""What becomes a service: a session of its own, behind the others for the processor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
# The manager makes each of its children the leader of a process group before it becomes the launcher.
CHILD = """
import json, os, pathlib
os.setpgrp()
from apps.ops.stack.launch import step_back
step_back(7)
file = pathlib.Path("/proc/self/autogroup")
group = file.read_text() if file.exists() else ""
print(json.dumps([os.getpid(), os.getpgrp(), os.getsid(0), os.nice(0), group]))
"""


def test_a_service_leads_a_session_of_its_own_and_steps_back_by_its_niceness() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, check=True)
    pid, group, session, niceness, _ = json.loads(done.stdout)
    assert (group, session, niceness) == (pid, pid, 7)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not share the processor between sessions")
def test_where_sessions_share_the_processor_the_session_steps_back_too() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, check=True)
    shared = json.loads(done.stdout)[-1]
    assert shared.endswith("nice 7\n")
    # A process that no terminal or login began is in no group: its file is empty then.
    assert shared.split()[:1] != AUTOGROUP.read_text().split()[:1]
