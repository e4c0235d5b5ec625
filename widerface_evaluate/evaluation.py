"""WIDER FACE average precision (AP) on the easy, medium and hard faces, as the official toolbox computes it.

    python widerface_evaluate/evaluation.py -p PREDICTIONS -g GROUND_TRUTH --json results.json
    python widerface_evaluate/evaluation.py -p V1=DIR -p V2=DIR -g GROUND_TRUTH --bootstrap 1000 --plot DIR
    python widerface_evaluate/evaluation.py -p PREDICTIONS -g GROUND_TRUTH --by size
    python widerface_evaluate/evaluation.py -p PREDICTIONS -g GROUND_TRUTH --min_height 9 --by event

GROUND_TRUTH holds wider_face_val.mat and wider_easy_val.mat, wider_medium_val.mat, wider_hard_val.mat. PREDICTIONS
holds EVENT/NAME.txt for every picture: the name, the number of detections, then `x y w h score` a line, highest score
first; (x, y) is the upper left corner, in pixels of the original picture.

Conventions that are easily got wrong:
- Scores are stretched to 0..1 over the whole set, pictures without faces included, from the lowest to the highest, or
  to 0 where none is above. On that scale the curve has 1,000 points: thresholds 0.999, 0.998, ... 0.
- IoU >= 0.5 is a match, and a box of width w covers w + 1 pixels.
- A detection is compared with the one face it overlaps most (the first of equals). If an earlier detection has that
  face, it is a false alarm; it gets no second choice.
- Detections of a picture are sorted by score, highest first. In ties the order of the file decides.
- Easy is part of medium, medium of hard. Faces outside the subset are ignored, not removed: a detection whose best
  face is ignored is neither hit nor false alarm. All other false alarms count in every subset, whatever their size.
- The official files give a picture without faces one box, 0 0 0 0, in no subset: its false alarms count, as do those
  of any picture whose faces are all ignored. Only a picture without any box would be skipped, with its false alarms.
- Precision is made monotone from the right, then summed over the steps of recall. A recall that is never reached adds
  nothing, so AP is at most the highest recall. A group without faces has no AP: nan, in JSON null.
- `--by size` takes all faces not marked invalid, by height; the smallest are in no subset. Other --by take hard faces,
  or with `--min_height` all faces not marked invalid of that height and more, in pixels of the picture.
- `--by size` has a second table, by the height of a face at the network: in the picture as the detector saw it. It
  takes the scale of each picture from PREDICTIONS/scales.csv, which test_widerface.py writes: a line EVENT/NAME,SCALE
  each; without the file pictures count as seen at their own size. Beside AP at IoU 0.5 and 0.3 it has the median, over
  the faces found at IoU 0.3, of the square root of box area over label area: above 1 boxes are too large.

Errors (one line with file and line, exit code 2): a missing folder, event or file; a first line that names another
picture; a count that is not the number of lines (a truncated file); a line that is not five numbers; NaN or an infinite
number; a negative width or height.
Legal, but counted and told on stderr: pictures without detections (an empty file, or the count 0); files of pictures
that the ground truth does not have (left out, their scores too); equal scores throughout (the published evaluator
divides by zero there; here the curve has one point).

Needs numpy and scipy, for --plot also matplotlib.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

# A script finds its neighbours by their short names only: Python then looks in this folder, not in the one above.
if __package__:
    from widerface_evaluate import average_precision, wider_files
    from widerface_evaluate.average_precision import Curve, Group
else:
    import average_precision
    import wider_files
    from average_precision import Curve, Group

#: More draws say nothing new, and taller faces there are none.
MOST_DRAWS, TALLEST = 10**6, 10**6

#: Of heights at the network, and the IoU at which a face counts as seen, though badly fitted.
NETWORK_LIMITS = (0, 6, 8, 12, 16, 24, 32, 64, math.inf)
SEEN_IOU = 0.3


def network_size_table(
    predictions: wider_files.Predictions,
    scales: np.ndarray,
    pictures: np.ndarray,
    ground_truth: wider_files.GroundTruth,
) -> str:
    """AP of valid faces by height at the network, and how large their boxes are.

    scales: float [P], those of the pictures; pictures: bool [P], those that are looked at.
    """
    height = ground_truth.boxes[:, 3] * scales[ground_truth.picture]
    valid = average_precision.faces_of_height(0, math.inf, ground_truth)
    ious = (average_precision.MATCH_IOU, SEEN_IOU)
    matches = [average_precision.match_detections(predictions, ground_truth, iou) for iou in ious]
    lines = [f"{'px at the network':<18}{'faces':>8}{'AP@0.5':>9}{'AP@0.3':>9}{'box/label':>11}"]
    for low, high in zip(NETWORK_LIMITS, NETWORK_LIMITS[1:]):
        faces = valid & (height >= low) & (height < high) & pictures[ground_truth.picture]
        group = Group(faces, pictures)
        best, seen = (float(average_precision.precision_recall(each, group, ground_truth).ap) for each in matches)
        found = matches[1].growth[matches[1].first & faces[matches[1].face]]
        growth = f"{np.median(found):>11.2f}" if len(found) else f"{'-':>11}"
        name = f"{low}-{high}" if math.isfinite(high) else f"over {low}"
        lines.append(f"{name:<18}{faces.sum():>8,}{best:>9.4f}{seen:>9.4f}{growth}")
    return "\n".join(lines)


def group_tables(folder: Path, by: str, ground_truth: wider_files.GroundTruth) -> str:
    """What --by prints of a folder of predictions, beside the three subsets; InputError as read_predictions."""
    predictions = wider_files.read_predictions(folder, ground_truth)
    matches = average_precision.match_detections(predictions, ground_truth)
    groups = average_precision.groups_by(by, ground_truth.subsets["hard"], ground_truth)
    curves = {name: average_precision.precision_recall(matches, group, ground_truth) for name, group in groups.items()}
    lines = [table(groups, curves, {})]
    if by == "size":
        everywhere = np.ones(len(ground_truth.pictures), dtype=bool)
        scales = wider_files.read_scales(folder, ground_truth)
        lines.append(network_size_table(predictions, scales, everywhere, ground_truth))
    return "\n".join(lines)


def format_remarks(predictions: wider_files.Predictions, ground_truth: wider_files.GroundTruth) -> list[str]:
    """A line where boxes read in another way fit many more faces than as x y w h in pixels."""
    readings = {
        "x1 y1 x2 y2": lambda boxes: np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]),
        "the centre, width and height": lambda boxes: np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]]),
    }

    def faces_found(read: Callable[[np.ndarray], np.ndarray]) -> int:
        boxes = {picture: np.hstack([read(rows[:, :4]), rows[:, 4:]]) for picture, rows in predictions.items()}
        kept = {picture: rows[(rows[:, 2:4] >= 0).all(axis=1)] for picture, rows in boxes.items()}
        return int(average_precision.match_detections(kept, ground_truth).first.sum())

    expected = "expected are x y w h score, x y the upper left corner, in pixels of the original picture"
    corners = np.concatenate([rows[:, :4] for rows in predictions.values()])
    if len(corners) and corners.max() <= 1:
        return [f"no box is larger than a pixel: are they in 0..1? {expected}"]
    found = faces_found(lambda boxes: boxes)
    if found > 0.1 * len(ground_truth.boxes):
        return []
    for words, read in readings.items():
        if faces_found(read) > 2 * found:
            return [f"far more boxes fit a face when they are read as {words}; {expected}"]
    return [f"no box overlaps a face by an IoU of {average_precision.MATCH_IOU}; {expected}"] if not found else []


def plot_curves(curves: dict[str, dict[str, Curve]], folder: Path) -> None:
    """Draw precision_recall_{easy,medium,hard}.png, all models in each."""
    from matplotlib.figure import Figure

    for subset in wider_files.SUBSETS:
        figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=subset)
        for name, by_group in curves.items():
            curve, shown = by_group[subset], printable(name).replace("$", r"\$")  # between two $ stand formulas
            drawn = curve.recall > 0
            axes.plot(curve.recall[drawn], curve.precision[drawn], label=f"{shown}  AP {curve.ap:.4f}")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
        write_whole(curve_file(folder, subset), partial(figure.savefig, dpi=150))


def curve_file(folder: Path, subset: str) -> Path:
    return folder / f"precision_recall_{subset}.png"


def check_place(path: Path) -> None:
    """Make the folder of a file to write; InputError or OSError where the file cannot be written. For before the work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device would be replaced
        raise wider_files.InputError(f"cannot write {path}: no ordinary file is there")
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `path` and rename it, so that no half-written one is ever there.

    What a killed run has left beside it is replaced by the next run that writes the same file.
    """
    check_place(path)
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]  # `path` may have the longest name there can be
    partial = path.with_name(f".{name}.partial{path.suffix[:16]}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def table(groups: dict[str, Group], curves: dict[str, Curve], samples: dict[str, np.ndarray]) -> str:
    lines = []
    for name, group in groups.items():
        spread = ""
        if name in samples:
            spread = "  (95 %: {:.4f} to {:.4f})".format(*average_precision.interval(samples[name]))
        if name in wider_files.SUBSETS:
            lines.append(f"{name.capitalize():<6} Val AP: {curves[name].ap}{spread}")
        else:
            lines.append(f"{name} AP: {curves[name].ap:.4f}{spread}, {group.faces.sum()} faces")
    return "\n".join(lines)


def difference_table(name: str, other: str, samples: dict[str, dict[str, np.ndarray]]) -> str:
    """The intervals of AP of one model minus another, on the same draws; without 0, the models differ."""
    lines = [printable(f"{name} minus {other}")]
    for group, values in samples[name].items():
        low, high = average_precision.interval(values - samples[other][group])
        lines.append(f"{group} AP: {low:+.4f} to {high:+.4f} (95 %)")
    return "\n".join(lines)


def summary(curves: dict[str, Curve], samples: dict[str, np.ndarray], extent: str) -> dict:
    """What --json writes for one model; null is the AP of a group without faces. extent: what the AP stand on."""
    result: dict = {"pictures": extent}
    result |= {name: None if np.isnan(curve.ap) else float(curve.ap) for name, curve in curves.items()}
    if samples:
        result["intervals"] = {name: average_precision.interval(values) for name, values in samples.items()}
    return result


def named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals and not Path(text).is_dir() else (text, Path(text))


class Parser(argparse.ArgumentParser):
    """argparse with one line for a mistake."""

    def error(self, message: str):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def number(kind: type, most: int) -> Callable[[str], float]:
    """A type for add_argument: an int or a float from 0 to `most`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f"'{text[:40]}' is no {'whole ' * (kind is int)}number from 0 to {most:,}")
        return value

    return parse


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--pred", metavar="[NAME=]DIR", type=named_folder, action="append", required=True,
                        help="folder of predictions; may be given several times to compare models")
    parser.add_argument("-g", "--gt", metavar="DIR", type=Path, required=True, help="folder of the four .mat files")
    parser.add_argument("--json", metavar="FILE", type=Path,
                        help="write the AP and what they are of here: {pictures, easy, medium, hard, ...}; for several "
                             "-p one such by NAME")
    parser.add_argument("--plot", metavar="DIR", type=Path, help="draw the three precision-recall curves here")
    parser.add_argument("--by", choices=("size", *average_precision.LABEL_VALUES, "event"),
                        help="AP by height of the faces, or of the hard faces by label or event, the others ignored")
    parser.add_argument("--min_height", metavar="PIXELS", type=number(float, TALLEST),
                        help="AP of all valid faces at least this high, too; --by takes these in place of hard ones")
    parser.add_argument("--pictures", metavar="FILE", type=Path,
                        help="judge these pictures alone, a line EVENT/NAME.jpg each; predictions of others may be "
                             "absent, those that are there keep their say in the scale of scores")
    parser.add_argument("--bootstrap", metavar="N", type=number(int, MOST_DRAWS), default=0,
                        help="95 %% intervals from N draws of the pictures; for several -p also of the difference")
    args = parser.parse_args()
    names = [name for name, _ in args.pred]
    if len(set(names)) < len(names):
        parser.error("two -p have the same name; tell them apart: -p NAME=DIR")
    return args


def main() -> None:
    args = parse_args()
    for path in (args.json, args.plot and curve_file(args.plot, "easy")):
        if path is not None:
            check_place(path)  # before the work
    names = [name for name, _ in args.pred]
    ground_truth = wider_files.load_ground_truth(args.gt)
    listed, total = np.ones(len(ground_truth.pictures), dtype=bool), len(ground_truth.pictures)
    if args.pictures is not None:
        listed = wider_files.read_picture_list(args.pictures, ground_truth)
        kept = listed | np.all([wider_files.has_predictions(folder, ground_truth) for _, folder in args.pred], axis=0)
        ground_truth, listed = ground_truth.part(kept), listed[kept]
    extent = wider_files.extent(ground_truth.part(listed), total)
    groups, faces = average_precision.subset_groups(ground_truth), ground_truth.subsets["hard"]
    if args.min_height is not None:
        faces = average_precision.faces_of_height(args.min_height, math.inf, ground_truth)
        groups[f"at least {args.min_height:g} px"] = Group(faces, np.ones(len(ground_truth.pictures), dtype=bool))
    groups |= average_precision.groups_by(args.by, faces, ground_truth) if args.by else {}
    groups = {name: Group(group.faces & listed[ground_truth.picture], group.pictures & listed)
              for name, group in groups.items()}
    curves, samples = {}, {}
    for name, folder in args.pred:
        predictions = wider_files.read_predictions(folder, ground_truth)
        remarks = wider_files.remarks(folder, predictions, ground_truth) + format_remarks(predictions, ground_truth)
        for remark in remarks:
            print(printable(f"{name}: {remark}"), file=sys.stderr)
        matches = average_precision.match_detections(predictions, ground_truth)
        curves[name] = {title: average_precision.precision_recall(matches, group, ground_truth)
                        for title, group in groups.items()}
        samples[name] = {title: average_precision.bootstrap(matches, group, ground_truth, args.bootstrap)
                         for title, group in groups.items() if args.bootstrap and group.faces.any()}
        heading = f"{printable(name)}, {extent}" if len(names) > 1 else extent
        print(f"{heading}\n{table(groups, curves[name], samples[name])}")
        if args.by == "size":
            scales = wider_files.read_scales(folder, ground_truth)
            print(network_size_table(predictions, scales, listed, ground_truth))
    for name in names[1:] if args.bootstrap else []:
        print(difference_table(name, names[0], samples))
    if args.json:
        results = {name: summary(curves[name], samples[name], extent) for name in names}
        text = json.dumps(results if len(names) > 1 else results[names[0]], indent=2, ensure_ascii=False)
        # A byte of a name that is no UTF-8 becomes \udce9 or the like, which JSON can hold.
        write_whole(args.json, lambda path: path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace"))
    if args.plot:
        plot_curves(curves, args.plot)


def printable(text: object) -> str:
    """Text with names in it as one line: what is no letter or sign in them becomes a ?."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(text))


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no UTF-8 can be printed, as on stderr
    try:
        main()
        sys.stdout.flush()
    except (wider_files.InputError, OSError) as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
