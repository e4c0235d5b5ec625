"""All hostile files and all kills: what every reader makes of them. Not part of the tests: it takes 18 minutes.

    python -m tests.hostile
    python -m tests.hostile --seed 7      # other files, other moments
"""

import subprocess
import sys

from tests.helpers import ROOT
from utils.arguments import ArgumentParser, number
from utils.errors import run_script

PARTS = ("tests.hostile_evaluation", "tests.hostile_inputs", "tests.hostile_training")


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=number(int, 0), default=0)
    seed = str(parser.parse_args().seed)
    failed = []
    for part in PARTS:
        print(f"python -m {part} --seed {seed}", flush=True)
        if subprocess.run([sys.executable, "-m", part, "--seed", seed], cwd=ROOT).returncode:
            failed.append(part)
    print(f"failed: {', '.join(failed)}" if failed else "all as it should be")
    return bool(failed)


if __name__ == "__main__":
    run_script(main)
