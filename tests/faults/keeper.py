"""`python -m tests.faults.keeper`: see keeping.py."""

from __future__ import annotations

import os

import django


def main() -> None:
    """Django reads its settings before anything of ours may be imported."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    django.setup()
    from tests.faults.keeping import Keeper

    Keeper().run()


if __name__ == "__main__":
    main()
