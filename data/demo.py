"""Writes the demo set: a drawn caricature of WIDER FACE, in WIDER FACE's own layout.

python -m data.demo --output ./data/demo_set
python -m data.demo --output ./data/demo_set --train 600 --val 120 --seed 0

It is there to run the whole pipeline where no data set is at hand. Scores on it say nothing about photographs.
"""

from argparse import Namespace

from data.drawn.demo_set import write_demo_set
from utils.arguments import ArgumentParser, number
from utils.errors import run_script


def parse_args() -> Namespace:
    parser = ArgumentParser(description="Draw the demo set in WIDER FACE's layout.")
    parser.add_argument("--output", default="./data/demo_set", help="folder to write, made whole or not at all")
    parser.add_argument("--train", type=number(int, 1, 10**6), default=600, help="training pictures")
    parser.add_argument("--val", type=number(int, 1, 10**6), default=120, help="validation pictures")
    parser.add_argument("--seed", type=number(int, 0, 2**63 - 1), default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    write_demo_set(args.output, args.train, args.val, args.seed)
    print(f"demo set: {args.train} training and {args.val} validation pictures in {args.output}")


if __name__ == "__main__":
    run_script(main)
