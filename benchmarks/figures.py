"""The figures of benchmark.py: latency in every engine with AP against it where AP is known, and scores."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.engines import PYTORCH
from deployment.weights_file import measured_by
from detection.suppression import Detections, DetectionSettings
from utils.files import atomic_path
from utils.tables import Row
from widerface_evaluate.wider_files import SUBSETS

COLOURS = {"teacher": "tab:gray", "student": "tab:blue"}


def plot_comparison(rows: list[Row], precision: dict[str, list[Row]], path: Path) -> None:
    """rows: of comparison.compare; precision: {role: what is known of its AP, of weights_file.known_precision}."""
    common = set.intersection(*({measured_by(row) for row in known} for known in precision.values()))
    known = {role: next(row for row in rows if measured_by(row) == min(common)) for role, rows in precision.items()
             } if common else {}
    figure = Figure(figsize=(13 if known else 8, 4.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, 2 if known else 1))
    single = [row for row in rows if row["batch"] == 1]
    plot_latency(panels[0], single)
    if known:
        plot_precision(panels[1], [row for row in single if row["engine"] == PYTORCH], known)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def plot_latency(axes: Axes, rows: list[Row]) -> None:
    """Bars of the medians with their quartiles, grouped by engine and size."""
    groups = list(dict.fromkeys((row["engine"], f"{row['width']}x{row['height']}") for row in rows))
    for offset, role in ((-0.2, "teacher"), (0.2, "student")):
        own = [row for row in rows if row["role"] == role]
        places = [groups.index((row["engine"], f"{row['width']}x{row['height']}")) + offset for row in own]
        medians = [row["ms"] for row in own]
        errors = [[row["ms"] - row["ms lower quartile"] for row in own],
                  [row["ms upper quartile"] - row["ms"] for row in own]]
        bars = axes.barh(places, medians, 0.4, xerr=errors, color=COLOURS[role], label=f"{role} ({own[0]['model']})")
        axes.bar_label(bars, [f"{value:.1f}" for value in medians], padding=4, fontsize="small")
    axes.set_yticks(range(len(groups)), [", ".join(group) for group in groups])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="milliseconds", title=f"One picture on the CPU, {rows[0]['threads']} threads")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")


def plot_precision(axes: Axes, rows: list[Row], precision: dict[str, Row]) -> None:
    """AP on the three subsets against the milliseconds of one picture of the largest size, {role: its AP}.

    The AP of a subset without faces is None, and no point.
    """
    largest = max(row["width"] * row["height"] for row in rows)
    rows = [row for row in rows if row["width"] * row["height"] == largest]
    milliseconds = [row["ms"] for row in rows]
    for subset, marker in zip(SUBSETS, "osD"):
        axes.plot(milliseconds, [precision[row["role"]][subset] for row in rows], marker=marker, linewidth=1,
                  label=subset)
    for row in rows:
        aps = [precision[row["role"]][subset] for subset in SUBSETS]
        highest = max((ap for ap in aps if ap is not None), default=0)
        axes.annotate(f"{row['role']} ({row['model']})", (row["ms"], highest), (0, 10), textcoords="offset points",
                      ha="center")
    measured = precision[rows[0]["role"]]
    axes.set(xlabel=f"milliseconds for one picture of {rows[0]['width']}x{rows[0]['height']}, PyTorch", ylabel="AP",
             title=f"AP on {measured['dataset']}, protocol {measured['protocol']}, against latency",
             ylim=(0, 1), xlim=(0, 1.2 * max(milliseconds)))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def plot_confidence(found: dict[str, list[Detections | None]], threshold: float, path: Path) -> None:
    """Histograms of the scores of all detections, {name of the detector: its detections}."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, pictures in found.items():
        scores = np.concatenate([np.zeros(0), *(picture.scores for picture in pictures if picture is not None)])
        faces = int((scores >= threshold).sum())
        axes.hist(scores, bins=np.linspace(0, 1, 51), histtype="step", linewidth=1.5,
                  label=f"{name}: {len(scores):,} detections, {faces:,} faces")
    axes.axvline(threshold, color="gray", linestyle="--", linewidth=1, label=f"a face from {threshold:g} on")
    axes.set(xlabel="score", ylabel="detections", yscale="log", xlim=(0, 1),
             title=f"Scores of all detections above {DetectionSettings.confidence_threshold}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
