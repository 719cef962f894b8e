#!/usr/bin/env python
"""Django's command line, with two additions.

A wrong setting is one clear line and exit code 2. `stack` runs before Django: a first start makes the secrets and
addresses that the settings read, and status, logs and down work even if a setting is wrong.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    if sys.argv[1:2] == ["stack"]:
        from apps.ops.stack.cli import main as stack

        return stack(sys.argv[2:])
    if sys.argv[1:2] == ["risk"]:
        # Reading the pages takes a fifth of the start, and none may stand between a person and a halt.
        os.environ.setdefault("CDB_PROCESS_ROLE", "worker")
    gc.disable()  # nothing of what is imported is garbage, and looking for it takes a tenth of the start
    import django
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from cdb_project.env import SettingError

    try:
        django.setup()
        gc.freeze()
        gc.enable()
        execute_from_command_line(sys.argv)
    except SettingError as error:
        print(f"cdb: {error}", file=sys.stderr)
        return 2
    except OperationalError as error:
        print(f"cdb: the database does not answer; is the stack up? ({str(error).splitlines()[0]})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
