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
    """{"batch_size": 32} -> ["--batch_size", "32"]."""
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]
