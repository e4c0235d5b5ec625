"""How far a run has come: a bar on a terminal, a line a minute in a log; and what to do with its weights at the end."""

import sys
import time
from argparse import Namespace

from tqdm import tqdm

from training.checkpoint import epochs_of
from training.log import best_row
from training.run_folder import checkpoint_path
from utils import distributed
from widerface_evaluate.wider_files import SUBSETS

#: Seconds between two lines in a log.
INTERVAL = 60


class ProgressLines:
    """What train_v2.py asks of tqdm, in lines of their own, for logs: a bar would be drawn there over and over."""

    def __init__(self, total: int, initial: int):
        self.total, self.initial, self.steps = total, initial, initial
        self.start = self.told = time.monotonic()
        self.epoch, self.values = "", {}

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_) -> None:
        pass

    def set_description(self, epoch: str) -> None:
        self.epoch = epoch

    def set_postfix(self, **values: str) -> None:
        self.values = values

    def update(self) -> None:
        self.steps += 1
        now = time.monotonic()
        if now - self.told >= INTERVAL:
            self.told, gone = now, now - self.start
            left = gone / (self.steps - self.initial) * (self.total - self.steps)
            values = "".join(f", {name} {value}" for name, value in self.values.items())
            print(f"{self.epoch}, step {self.steps:,} of {self.total:,}, {tqdm.format_interval(gone)} gone, "
                  f"{tqdm.format_interval(left)} left{values}", file=sys.stderr, flush=True)

    @staticmethod
    def write(text: str) -> None:
        print(text, flush=True)


#: What shows how far a run is.
Progress = tqdm | ProgressLines


def show_progress(total: int, initial: int) -> Progress:
    """For the steps of a whole run, of which `initial` were done before; the first process alone shows it."""
    if distributed.is_main() and not sys.stderr.isatty():
        return ProgressLines(total, initial)
    return tqdm(total=total, initial=initial, disable=not distributed.is_main())


def last_words(rows: list[dict], options: Namespace) -> str:
    """Where the weights of a finished run are, their AP, and how to try them. rows: those of its log."""
    def told(name: str, row: dict) -> str:
        ap = ", ".join(f"{subset} {row[f'ap_{subset}']:.4f}" for subset in SUBSETS if f"ap_{subset}" in row)
        return f"{checkpoint_path(options, name)}, " + (f"AP {ap} ({options.eval_protocol})" if ap else "AP not known")

    last = rows[-1] if rows else {}
    best = best_row(rows)
    lines = [f"weights: {told('final', last)}"]
    # A run that went on in another folder may have no best one there, or that of a training that was given up.
    is_kept = best not in (None, last) and epochs_of(checkpoint_path(options, "best")) == best["epoch"]
    if is_kept:
        lines.append(f"best, after epoch {best['epoch']}: {told('best', best)}")
    weights = checkpoint_path(options, "best" if is_kept else "final")
    return "\n".join([*lines, f"try them: python detect.py docs/detections.jpg --trained_model {weights}"])
