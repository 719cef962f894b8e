"""The supervised stack: which processes there are, and starting, watching and stopping them.

Works without Django's settings, because it makes the secrets and addresses that the settings read.
"""

from __future__ import annotations
