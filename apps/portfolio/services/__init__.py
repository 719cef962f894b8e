"""Writes of money. Every function that takes an account expects it locked by the caller, inside a transaction.

The caller saves the account once at the end (`save_account`): the row object carries cash, sequence and epoch.
"""

from apps.portfolio.services.corrections import CorrectionRefused, post_correction, reversal_legs
from apps.portfolio.services.equity import record_equity
from apps.portfolio.services.ledger import lock_account, open_account, post, save_account
from apps.portfolio.services.positions import EntryPlan, book_entry, book_exit, exit_failed
from apps.portfolio.services.reservations import promise_less, release, reserve

__all__ = [
    "CorrectionRefused",
    "EntryPlan",
    "book_entry",
    "book_exit",
    "exit_failed",
    "lock_account",
    "open_account",
    "post",
    "post_correction",
    "promise_less",
    "record_equity",
    "release",
    "reserve",
    "reversal_legs",
    "save_account",
]
