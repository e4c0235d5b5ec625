"""WIDER FACE average precision (AP) on the easy, medium and hard faces, as the official toolbox computes it.

    python widerface_evaluate/evaluation.py -p PREDICTIONS -g GROUND_TRUTH --json results.json
    python widerface_evaluate/evaluation.py -p V1=DIR -p V2=DIR -g GROUND_TRUTH --bootstrap 1000 --plot DIR
    python widerface_evaluate/evaluation.py -p PREDICTIONS -g GROUND_TRUTH --by size
    python widerface_evaluate/evaluation.py -p PREDICTIONS -g GROUND_TRUTH --min_height 9 --by event

GROUND_TRUTH holds wider_face_val.mat and wider_easy_val.mat, wider_medium_val.mat, wider_hard_val.mat. PREDICTIONS
holds EVENT/NAME.txt for every picture: the name, the number of detections, then `x y w h score` a line, highest score
first; (x, y) is the upper left corner, in pixels of the original picture.

Conventions that are easily got wrong:
- Scores are stretched to 0..1 over the whole set, pictures without faces included, from the lower of 1 and the lowest
  score to the higher of 0 and the highest. On that scale the curve has 1,000 points: thresholds 0.999, 0.998, ... 0.
- IoU >= 0.5 is a match, and a box of width w covers w + 1 pixels.
- A detection is compared with the one face it overlaps most (the first of equals). If an earlier detection has that
  face, it is a false alarm; it gets no second choice.
- The order of the file decides, in ties and otherwise. A threshold admits every line up to the last that reaches it.
  (The MATLAB toolbox sorts by score first; on sorted files both agree.)
- Easy is part of medium, medium of hard. Faces outside the subset are ignored, not removed: a detection whose best
  face is ignored is neither hit nor false alarm. All other false alarms count in every subset, whatever their size.
- A picture without annotated faces is skipped, with its false alarms. A picture whose faces are all ignored is not.
- Precision is made monotone from the right, then summed over the steps of recall. A recall that is never reached adds
  nothing, so AP is at most the highest recall. A group without faces has no AP: nan, in JSON null.
- `--by size` takes all faces not marked invalid, by height; the smallest are in no subset. Other --by take hard faces,
  or with `--min_height` all faces not marked invalid of that height and more, in pixels of the picture.

Errors (one line with file and line, exit code 2): a missing folder, event or file; a first line that names another
picture; a count that is not the number of lines (a truncated file); a line that is not five numbers; NaN or an infinite
number; a negative width or height.
Legal, but counted and told on stderr: pictures without detections (an empty file, or the count 0); files of pictures
that the ground truth does not have (left out, their scores too); files not in order of score; equal scores throughout
(the published evaluator divides by zero there; here the curve has one point).

Needs numpy and scipy, for --plot also matplotlib.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

# A script finds its neighbours by their short names only: Python then looks in this folder, not in the one above.
if __package__:
    from widerface_evaluate import wider_files
else:
    import wider_files

THRESHOLDS = 1 - np.arange(1, 1001) / 1000
MATCH_IOU = 0.5
SIZE_LIMITS = (0, 8, 16, 32, 96, math.inf)
SIZE_NAMES = ("under 8 px", "8-16 px", "16-32 px", "32-96 px", "over 96 px")
BOOTSTRAP_BLOCK = 250
LABEL_VALUES = {
    "blur": ("clear", "normal", "heavy"),
    "occlusion": ("none", "partial", "heavy"),
    "pose": ("typical", "atypical"),
}


@dataclass(frozen=True)
class Matches:
    """The fate of D detections in pictures with faces, before it is said which faces count."""

    picture: np.ndarray  # int64 [D]: index of the picture
    threshold: np.ndarray  # int64 [D]: index of the first of THRESHOLDS that admits the detection
    face: np.ndarray  # int64 [D]: index of the matched face, -1 without a match
    first: np.ndarray  # bool [D]: matched, and no earlier detection has that face


@dataclass(frozen=True)
class Group:
    """What an AP is about: the faces that count, the others being ignored, and the pictures looked at."""

    faces: np.ndarray  # bool [F]
    pictures: np.ndarray  # bool [P]


@dataclass(frozen=True)
class Curve:
    """Precision and recall at THRESHOLDS, float64 [..., 1000], and AP, float64 [...]; NaN where no face counts."""

    precision: np.ndarray
    recall: np.ndarray
    ap: np.ndarray


def evaluate(predictions: wider_files.Predictions, ground_truth: wider_files.GroundTruth) -> dict[str, float]:
    """{"easy": AP, "medium": AP, "hard": AP} of predictions read from files or made in memory.

    Predictions maps each (event, picture name) of the ground truth to an array [n, 5] of x y w h score; n may be 0.
    Raises InputError where a picture is missing or unknown, or an array has not that shape or holds bad numbers.
    """
    matches = match_detections(predictions, ground_truth)
    groups = subset_groups(ground_truth)
    return {subset: float(precision_recall(matches, group, ground_truth).ap) for subset, group in groups.items()}


def match_detections(predictions: wider_files.Predictions, ground_truth: wider_files.GroundTruth) -> Matches:
    """Give every detection its face: the part of the work that all groups of faces share."""
    detections = wider_files.in_order(predictions, ground_truth)
    end_faces = np.searchsorted(ground_truth.picture, np.arange(len(detections)), side="right")
    pictures, scores, faces = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, np.int64)]
    first_face = 0
    for picture, (rows, end_face) in enumerate(zip(detections, end_faces)):
        if len(rows) and first_face < end_face:
            overlaps = pixel_iou(rows[:, :4], ground_truth.boxes[first_face:end_face])
            best = overlaps.argmax(axis=1)
            matched = overlaps[np.arange(len(rows)), best] >= MATCH_IOU
            pictures.append(np.full(len(rows), picture))
            faces.append(np.where(matched, first_face + best, -1))
            # A threshold admits every line above the last that reaches it, so the highest score from here on decides.
            scores.append(np.maximum.accumulate(rows[::-1, 4])[::-1])
        first_face = end_face
    faces = np.concatenate(faces)
    first = np.zeros(len(faces), dtype=bool)
    first[np.unique(faces, return_index=True)[1]] = True
    thresholds = np.searchsorted(-THRESHOLDS, -normalise(np.concatenate(scores), detections))
    return Matches(np.concatenate(pictures), thresholds, faces, first & (faces >= 0))


def normalise(scores: np.ndarray, detections: list[np.ndarray]) -> np.ndarray:
    """Stretch scores to 0..1 by the range of all detections, also those in pictures without faces."""
    everything = np.concatenate([rows[:, 4] for rows in detections])
    lowest, highest = everything.min(initial=1.0), everything.max(initial=0.0)
    return (scores - lowest) / (highest - lowest) if highest > lowest else np.ones_like(scores)


def pixel_iou(boxes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """IoU [n, m] of boxes [n, 4] and [m, 4], x y w h, where both edge pixels belong to a box."""
    left, top = boxes[:, None, 0], boxes[:, None, 1]
    right, bottom = left + boxes[:, None, 2], top + boxes[:, None, 3]
    face_right, face_bottom = faces[:, 0] + faces[:, 2], faces[:, 1] + faces[:, 3]
    width = np.minimum(right, face_right) - np.maximum(left, faces[:, 0]) + 1
    height = np.minimum(bottom, face_bottom) - np.maximum(top, faces[:, 1]) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    box_area = (right - left + 1) * (bottom - top + 1)
    face_area = (face_right - faces[:, 0] + 1) * (face_bottom - faces[:, 1] + 1)
    return shared / (box_area + face_area - shared)


def precision_recall(matches: Matches, group: Group, ground_truth: wider_files.GroundTruth,
                     picture_weights: np.ndarray | None = None) -> Curve:
    """The curve of one group of faces; picture_weights [..., P] counts pictures several times or not at all."""
    pictures = len(ground_truth.pictures)
    weights = np.ones(pictures) if picture_weights is None else picture_weights

    def admitted(chosen: np.ndarray) -> np.ndarray:
        """The number of chosen detections at each threshold, [..., 1000]."""
        cells = matches.picture[chosen], matches.threshold[chosen]
        counts = csr_array((np.ones(len(cells[0])), cells), shape=(pictures, len(THRESHOLDS)))
        return np.cumsum(weights @ counts, axis=-1)

    looked_at = group.pictures[matches.picture]
    matched = matches.face >= 0
    counts = matched & group.faces[matches.face]
    hits = admitted(looked_at & counts & matches.first)
    reported = admitted(looked_at & (counts | ~matched))
    faces = weights @ np.bincount(ground_truth.picture[group.faces], minlength=pictures)
    with np.errstate(invalid="ignore"):
        recall = hits / np.asarray(faces)[..., None]
    precision = hits / np.maximum(reported, 1)
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return Curve(precision, recall, (np.diff(recall, axis=-1, prepend=0) * envelope).sum(axis=-1))


def subset_groups(ground_truth: wider_files.GroundTruth) -> dict[str, Group]:
    everywhere = np.ones(len(ground_truth.pictures), dtype=bool)
    return {subset: Group(ground_truth.subsets[subset], everywhere) for subset in wider_files.SUBSETS}


def faces_of_height(low: float, high: float, ground_truth: wider_files.GroundTruth) -> np.ndarray:
    """bool [F]: faces not marked invalid with low <= height < high, in pixels."""
    height = ground_truth.boxes[:, 3]
    valid = ground_truth.labels.get("invalid", np.zeros(len(height))) == 0
    return valid & (height >= low) & (height < high)


def groups_by(kind: str, faces: np.ndarray, ground_truth: wider_files.GroundTruth) -> dict[str, Group]:
    """The groups of --by: valid faces by height in pixels; or `faces`, bool [F], by label or event by event."""
    everywhere = np.ones(len(ground_truth.pictures), dtype=bool)
    if kind == "size":
        return {name: Group(faces_of_height(low, high, ground_truth), everywhere)
                for name, low, high in zip(SIZE_NAMES, SIZE_LIMITS, SIZE_LIMITS[1:])}
    if kind == "event":
        events = np.array([event for event, _ in ground_truth.pictures])
        return {event: Group(faces & (events == event)[ground_truth.picture], events == event)
                for event in dict.fromkeys(events.tolist())}
    if kind not in ground_truth.labels:
        raise wider_files.InputError(f"wider_face_val.mat has no {kind}_label_list, so --by {kind} is not possible")
    return {f"{kind} {name}": Group(faces & (ground_truth.labels[kind] == value), everywhere)
            for value, name in enumerate(LABEL_VALUES[kind])}


def bootstrap(matches: Matches, group: Group, ground_truth: wider_files.GroundTruth, times: int) -> np.ndarray:
    """AP, float64 [times], over pictures drawn with replacement: the same draws for every model and group.

    Scores keep the scale of the whole set.
    """
    random = np.random.default_rng(0)
    pictures = len(ground_truth.pictures)
    aps = []
    for start in range(0, times, BOOTSTRAP_BLOCK):
        draws = random.multinomial(pictures, np.full(pictures, 1 / pictures), min(BOOTSTRAP_BLOCK, times - start))
        aps.append(precision_recall(matches, group, ground_truth, draws.astype(np.float64)).ap)
    return np.concatenate(aps)


def interval(samples: np.ndarray) -> list[float]:
    """The middle 95 % of the samples; draws without a face that counts are nan and left out."""
    return np.nanpercentile(samples, [2.5, 97.5]).tolist()


def plot_curves(curves: dict[str, dict[str, Curve]], folder: Path) -> None:
    """Draw precision_recall_{easy,medium,hard}.png, all models in each."""
    from matplotlib.figure import Figure

    for subset in wider_files.SUBSETS:
        figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=subset)
        for name, by_group in curves.items():
            curve = by_group[subset]
            drawn = curve.recall > 0
            axes.plot(curve.recall[drawn], curve.precision[drawn], label=f"{name}  AP {curve.ap:.4f}")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
        write_whole(folder / f"precision_recall_{subset}.png", partial(figure.savefig, dpi=150))


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `path` and rename it, so that no half-written one is ever there."""
    if path.exists() and not path.is_file():  # a device would be replaced
        raise wider_files.InputError(f"cannot write {path}: no ordinary file is there")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def table(groups: dict[str, Group], curves: dict[str, Curve], samples: dict[str, np.ndarray]) -> str:
    lines = []
    for name, group in groups.items():
        spread = "  (95 %: {:.4f} to {:.4f})".format(*interval(samples[name])) if name in samples else ""
        if name in wider_files.SUBSETS:
            lines.append(f"{name.capitalize():<6} Val AP: {curves[name].ap}{spread}")
        else:
            lines.append(f"{name} AP: {curves[name].ap:.4f}{spread}, {group.faces.sum()} faces")
    return "\n".join(lines)


def difference_table(name: str, other: str, samples: dict[str, dict[str, np.ndarray]]) -> str:
    """The intervals of AP of one model minus another, on the same draws; without 0, the models differ."""
    lines = [f"{name} minus {other}"]
    for group, values in samples[name].items():
        low, high = interval(values - samples[other][group])
        lines.append(f"{group} AP: {low:+.4f} to {high:+.4f} (95 %)")
    return "\n".join(lines)


def summary(curves: dict[str, Curve], samples: dict[str, np.ndarray]) -> dict:
    """What --json writes for one model; null is the AP of a group without faces."""
    result = {name: None if np.isnan(curve.ap) else float(curve.ap) for name, curve in curves.items()}
    if samples:
        result["intervals"] = {name: interval(values) for name, values in samples.items()}
    return result


def named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals and not Path(text).is_dir() else (text, Path(text))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--pred", metavar="[NAME=]DIR", type=named_folder, action="append", required=True,
                        help="folder of predictions; may be given several times to compare models")
    parser.add_argument("-g", "--gt", metavar="DIR", type=Path, required=True, help="folder of the four .mat files")
    parser.add_argument("--json", metavar="FILE", type=Path,
                        help="write the AP here: {easy, medium, hard, ...}, for several -p one such by NAME")
    parser.add_argument("--plot", metavar="DIR", type=Path, help="draw the three precision-recall curves here")
    parser.add_argument("--by", choices=("size", *LABEL_VALUES, "event"),
                        help="AP by height of the faces, or of the hard faces by label or event, the others ignored")
    parser.add_argument("--min_height", metavar="PIXELS", type=float,
                        help="AP of all valid faces at least this high, too; --by takes these in place of hard ones")
    parser.add_argument("--pictures", metavar="FILE", type=Path,
                        help="judge these pictures alone, a line EVENT/NAME.jpg each; scores keep the scale of all")
    parser.add_argument("--bootstrap", metavar="N", type=int, default=0,
                        help="95 %% intervals from N draws of the pictures; for several -p also of the difference")
    args = parser.parse_args()
    names = [name for name, _ in args.pred]
    if len(set(names)) < len(names):
        parser.error("two -p have the same name; tell them apart: -p NAME=DIR")
    if args.bootstrap < 0:
        parser.error("--bootstrap takes a number of draws, such as 1000")
    return args


def check_folder(folder: Path) -> None:
    """Make a folder that results go to; OSError where nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def main() -> None:
    args = parse_args()
    for folder in (args.json and args.json.parent, args.plot):
        if folder is not None:
            check_folder(folder)  # before the work
    names = [name for name, _ in args.pred]
    ground_truth = wider_files.load_ground_truth(args.gt)
    groups, faces = subset_groups(ground_truth), ground_truth.subsets["hard"]
    if args.min_height is not None:
        faces = faces_of_height(args.min_height, math.inf, ground_truth)
        groups[f"at least {args.min_height:g} px"] = Group(faces, np.ones(len(ground_truth.pictures), dtype=bool))
    groups |= groups_by(args.by, faces, ground_truth) if args.by else {}
    if args.pictures is not None:
        chosen = wider_files.read_picture_list(args.pictures, ground_truth)
        groups = {name: Group(group.faces & chosen[ground_truth.picture], group.pictures & chosen)
                  for name, group in groups.items()}
    curves, samples = {}, {}
    for name, folder in args.pred:
        predictions = wider_files.read_predictions(folder, ground_truth)
        for remark in wider_files.remarks(folder, predictions, ground_truth):
            print(f"{name}: {remark}", file=sys.stderr)
        matches = match_detections(predictions, ground_truth)
        curves[name] = {title: precision_recall(matches, group, ground_truth) for title, group in groups.items()}
        samples[name] = {title: bootstrap(matches, group, ground_truth, args.bootstrap)
                         for title, group in groups.items() if args.bootstrap and group.faces.any()}
        heading = f"{name}\n" if len(names) > 1 else ""
        print(heading + table(groups, curves[name], samples[name]))
    for name in names[1:] if args.bootstrap else []:
        print(difference_table(name, names[0], samples))
    if args.json:
        results = {name: summary(curves[name], samples[name]) for name in names}
        text = json.dumps(results if len(names) > 1 else results[names[0]], indent=2, ensure_ascii=False)
        write_whole(args.json, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    if args.plot:
        plot_curves(curves, args.plot)


if __name__ == "__main__":
    try:
        main()
    except (wider_files.InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
