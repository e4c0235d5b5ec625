"""Print where the detectors spend their parameters and multiply-adds, block by block.

    python -m models
"""

from models import MODELS, build_model
from models.ledger import format_ledger, measure
from utils.arguments import ArgumentParser
from utils.errors import run_script

HEIGHT = WIDTH = 640


def main(arguments: list[str] | None = None) -> None:
    ArgumentParser(prog="python -m models", description=__doc__).parse_args(arguments)
    costs = {name: measure(build_model(name).eval(), HEIGHT, WIDTH) for name in MODELS}
    print(format_ledger(costs, HEIGHT, WIDTH))


if __name__ == "__main__":
    run_script(main)
