"""Curves of a training run."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.files import atomic_path
from widerface_evaluate.wider_files import SUBSETS


def plot_training(rows: list[dict], path: str | Path, terms: list[str]) -> None:
    """Losses (unweighted, logarithmic), learning rate and AP over epochs, from the rows of training_log.csv."""
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    losses, rate, precision = figure.subplots(1, 3)
    for name in ["total", *terms]:
        draw(losses, rows, name, linewidth=2 if name == "total" else 1)
    losses.set(title="losses", yscale="log")
    draw(rate, rows, "learning_rate")
    rate.set(title="learning rate")
    for subset in SUBSETS:
        draw(precision, rows, f"ap_{subset}", marker="o")
    precision.set(title="AP on the validation set, EMA weights", ylim=(0, 1))
    for axes in (losses, rate, precision):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw(axes: Axes, rows: list[dict], name: str, **style) -> None:
    """One column of the log over the epochs that have it."""
    known = [row for row in rows if name in row]
    if known:
        axes.plot([row["epoch"] for row in known], [row[name] for row in known], label=name, **style)
