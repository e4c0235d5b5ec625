"""Errors a user can act on, and the one way every script reports them."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input, told in one line: what is wrong, where, and what to do."""


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main; a UserError becomes one line on stderr and exit code 2."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
