"""Command-line flags: both spellings of a name, bounds on numbers, mistakes told in one line."""

import argparse
import math
from collections.abc import Callable


class ArgumentParser(argparse.ArgumentParser):
    """argparse with `--batch_size` and `--batch-size` meaning the same, and one line and exit code 2 for a mistake."""

    def __init__(self, **options):
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: str, **options):
        hyphenated = [name.replace("_", "-") for name in names if name.startswith("--") and "_" in name]
        return super().add_argument(*names, *hyphenated, **options)

    def error(self, message: str):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as written, the default behind every flag that has one; of two spellings only the first."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)

    def _format_action_invocation(self, action):
        if len(action.option_strings) < 2:
            return super()._format_action_invocation(action)
        metavar = ""
        if action.nargs != 0:
            metavar = " " + self._format_args(action, self._get_default_metavar_for_optional(action))
        shown = [name for name in action.option_strings if name == action.option_strings[0] or "-" not in name[2:]]
        return ", ".join(name + metavar for name in shown)


#: Whole numbers that libraries take: beyond, PyTorch and NumPy overflow.
LARGEST = 2**31 - 1


def number(kind: type, minimum: float | None = None, maximum: float | None = None) -> Callable[[str], float]:
    """A type for add_argument: an int or a finite float within closed bounds, by default an int up to LARGEST."""
    bounds = f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"
    if kind is int and maximum is None:
        maximum, bounds = LARGEST, f"{bounds}, up to {LARGEST}"

    def parse(text: str):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{shown}' is no {'whole ' if kind is int else ''}number") from None
        finite = kind is int or math.isfinite(value)
        if not finite or (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            raise argparse.ArgumentTypeError(f"{shown} is out of range, it must be {bounds}")
        return value

    return parse
