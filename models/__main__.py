"""python -m models: the ledger of the teacher and the student."""

from models import MODELS, build_model
from models.ledger import format_ledger, measure

HEIGHT = WIDTH = 640


def main() -> None:
    costs = {name: measure(build_model(name).eval(), HEIGHT, WIDTH) for name in MODELS}
    print(format_ledger(costs, HEIGHT, WIDTH))


if __name__ == "__main__":
    main()
