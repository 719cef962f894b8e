"""The parts of a start that run inside Django."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import call_command
from pytest_django.fixtures import Settings

from apps.ops.embedded.home import open_home
from apps.ops.stack.bootstrap import collect_static_files, ensure_staff_user, write_flower_configuration
from apps.ops.stack.runtime import Options, plan_runtime


@pytest.mark.django_db
def test_the_first_start_makes_a_staff_user_and_later_ones_keep_the_password(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    first = ensure_staff_user(home, plan_runtime(home, Options(port=8000), None, {}))
    again = ensure_staff_user(home, plan_runtime(home, Options(port=8001), None, {}))
    assert again["password"] == first["password"]
    assert again["url"] == "http://127.0.0.1:8001/"
    path = home.root / "credentials.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == again
    user = authenticate(username=again["username"], password=again["password"])
    assert user is not None
    assert user.is_staff
    assert user.is_superuser


@pytest.mark.django_db
def test_a_changed_password_is_not_set_back(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    runtime = plan_runtime(home, Options(port=8000), None, {})
    ensure_staff_user(home, runtime)
    user = get_user_model().objects.get(username="admin")
    user.set_password("chosen by a person")
    user.save()
    ensure_staff_user(home, runtime)
    assert authenticate(username="admin", password="chosen by a person") == user


@pytest.mark.django_db
def test_an_emptied_database_gets_the_known_password_again(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    runtime = plan_runtime(home, Options(port=8000), None, {})
    known = ensure_staff_user(home, runtime)
    get_user_model().objects.all().delete()
    assert ensure_staff_user(home, runtime) == known
    assert authenticate(username="admin", password=known["password"])


def test_static_files_are_collected_once_and_again_after_a_change(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "page.css").write_text("a {}")
    settings.DATA_DIR = tmp_path
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS = [tmp_path / "ours"]
    assert collect_static_files()
    assert not collect_static_files()
    (tmp_path / "ours" / "page.css").write_text("b {color: red}")
    assert collect_static_files()
    assert (tmp_path / "static" / "page.css").read_text() == "b {color: red}"


def test_flower_reads_its_password_from_a_private_file(tmp_path: Path) -> None:
    home = open_home(tmp_path / "data")
    (home.root / "run").mkdir()
    write_flower_configuration(home, plan_runtime(home, Options(port=8000), None, {}))
    path = home.root / "run" / "flower.py"
    assert path.stat().st_mode & 0o777 == 0o600
    found: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), found)  # noqa: S102  (as flower does)
    assert found["basic_auth"] == [f"cdb:{home.secret('flower_password')}"]
    assert found["read_only"] is True
    assert found["address"] == "127.0.0.1"


def test_the_stack_is_among_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("stack", "restart")
    assert ended.value.code == 2
