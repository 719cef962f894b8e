"""Whom the servers run as. PostgreSQL refuses to run as root, so root hands its servers to an account of their own."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

SYSTEM_DIR = Path("/var/lib/cdb")
ACCOUNT_NAME = "cdb"


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int


def service_account() -> Account | None:
    """The account for the servers, made if root has none yet; None for a normal user. Raises OSError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        entry = _make_account()
    return Account(entry.pw_uid, entry.pw_gid)


def _make_account() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_DIR)]
    answer = subprocess.run(
        [*command, "--shell", "/usr/sbin/nologin", ACCOUNT_NAME], capture_output=True, text=True, check=False
    )
    try:
        return pwd.getpwnam(ACCOUNT_NAME)  # also right if another start made the account a moment before us
    except KeyError:
        raise OSError(answer.returncode, f"useradd failed: {answer.stderr.strip()}", ACCOUNT_NAME) from None


def own_directory(path: Path, account: Account | None, *, mode: int = 0o700) -> Path:
    """Make the directory `path` with exactly `mode` for `account` (us, if None). One that exists is left alone."""
    if not path.is_dir():
        own_parents(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
        path.chmod(mode)  # the process's umask may have taken bits away
        if account:
            os.chown(path, account.uid, account.gid)
    return path


def own_parents(path: Path) -> None:
    """Make what is missing of `path`, so that the account can pass through it."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        part.chmod(0o755 if os.geteuid() == 0 else 0o700)
