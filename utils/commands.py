"""Running the scripts of this repo as a person would, from the demo and from the notebook."""

import subprocess
import sys

from utils.errors import STOPPED, UserError


def run(*command: str) -> None:
    """Run `python command` with this Python, showing what is run; UserError where it fails."""
    print(f"\n$ python {' '.join(command)}", flush=True)
    code = subprocess.run([sys.executable, *command]).returncode
    if code == STOPPED:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"stopped at: python {' '.join(command)}; the line above says why")


def flags(settings: dict) -> list[str]:
    """{"batch_size": 32, "crop_scales": [1, 2], "compile": True} -> --batch_size 32 --crop_scales 1 2 --compile.

    None and False leave their flag out.
    """
    words = []
    for name, value in settings.items():
        if value is None or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name}", *map(str, values)]
    return words
