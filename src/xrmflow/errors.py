"""Errors whose message is meant for the person at the keyboard.

The command line prints the message of a `UserError` as one line and exits non-zero, without a traceback.
A message says what is wrong (name, expected, got) and what to do about it.
"""


class UserError(Exception):
    """Something the user can mend: a setting, a file, a store, a full disk."""


class SettingsError(UserError):
    """A settings file or scan table that does not say something valid."""


class RawFileError(UserError):
    """A raw scan that cannot be read, or lacks what a reconstruction needs."""


class StoreError(UserError):
    """A store that is missing, incomplete, damaged, or holds another quantity than asked for."""
