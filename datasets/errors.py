"""Errors that a user can cause and mend. Bugs raise ordinary exceptions."""

import functools
import sys


class UserError(Exception):
    """One sentence: the flag or file, the value found, the value wanted, what to do."""


def exit_on_user_error(main):
    """Wraps a command's main(): a UserError becomes one line on stderr and exit status 2, Ctrl-C status 130 alone."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped
