"""Which lines of requirements.txt the running Python does not fulfil, asked without pip, in a tenth of a second.

    python -m utils.installed        # prints them; exit code 1 where there are any
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


def missing(requirements: Path = REQUIREMENTS) -> list[str]:
    """The lines whose package is absent or of another version; all of them where `packaging` is not there to tell."""
    lines = [line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    try:
        from packaging.requirements import Requirement  # not in a new environment; comes with pytest
    except ImportError:
        return lines
    return [line for line in lines if not _is_installed(Requirement(line))]


def _is_installed(requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    print("\n".join(lines := missing()))
    sys.exit(bool(lines))
