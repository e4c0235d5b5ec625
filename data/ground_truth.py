"""The ground truth of the official evaluation for any labelled pictures: easy, medium and hard by height."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.widerface import Record
from utils.errors import UserError
from utils.files import fingerprint
from widerface_evaluate.ground_truth_files import ATTRIBUTES, AnnotatedPicture, write_ground_truth
from widerface_evaluate.wider_files import is_name

#: Smallest height in pixels of the faces that count in each subset; the rest is ignored by the evaluation.
SUBSET_HEIGHTS = {"easy": 50, "medium": 24, "hard": 10}

#: In a ground truth that was made from a label.txt: what of. Others, as the official one, have no such file.
MADE_FROM = "made_from.txt"


def write_ground_truth_from(labels: Path, folder: Path, records: Sequence[Record]) -> Counter[str]:
    """As write_ground_truth_of, of the records of a label.txt; notes which it was, for is_outdated."""
    content = content_of(labels)
    counts = write_ground_truth_of(folder, records)
    (folder / MADE_FROM).write_bytes(content.encode())
    return counts


def is_outdated(folder: Path, labels: Path) -> bool:
    """Whether a ground truth was made from a label.txt, or an ignore.txt beside it, that has changed since."""
    made_from = folder / MADE_FROM
    return labels.is_file() and made_from.is_file() and made_from.read_bytes() != content_of(labels).encode()


def heights_of(folder: Path) -> dict[str, str]:
    """SUBSET_HEIGHTS of a ground truth made from a label.txt; empty for others, whose subsets are their own."""
    made_from = folder / MADE_FROM
    words = made_from.read_text(encoding="utf-8", errors="replace").split() if made_from.is_file() else []
    return dict(zip(SUBSET_HEIGHTS, words))


def content_of(labels: Path) -> str:
    """Another text where ground truth made from label.txt, and ignore.txt beside it, would be another."""
    files = [path for path in (labels, labels.with_name("ignore.txt")) if path.is_file()]
    return " ".join([*map(str, SUBSET_HEIGHTS.values()), *map(fingerprint, files)]) + "\n"


def write_ground_truth_of(folder: str | Path, records: Sequence[Record]) -> Counter[str]:
    """Write the four .mat files of records whose paths end in EVENT/NAME.jpg; returns how many faces each subset has.

    Ignored regions are faces marked invalid, in no subset: detections on them are neither hits nor false alarms.
    UserError where two pictures of an event differ in their suffix alone, and for a name the evaluation does not read.
    """
    pictures = [annotate(record) for record in records]
    for event, name in ((picture.event, picture.name) for picture in pictures):
        for part, kind in ((event, "folder"), (name, "picture")):
            if not is_name(part):
                raise UserError(f"the ground truth of AP knows no {kind} '{part[:80]}' ({event}/{name}): rename the "
                                f"{kind}, here and in label.txt, without : and \\")
    [(key, count)] = Counter((picture.event, picture.name) for picture in pictures).most_common(1)
    if count > 1:
        raise UserError(f"{count} pictures are called {'/'.join(key)}, apart from their suffix: give them other names, "
                        "the ground truth of AP knows none")
    write_ground_truth(folder, pictures)
    return Counter({subset: sum(sum(picture.subsets[subset]) for picture in pictures) for subset in SUBSET_HEIGHTS})


def annotate(record: Record) -> AnnotatedPicture:
    """The labels of a picture as the evaluation takes them."""
    path = Path(record.path)
    boxes = record.boxes.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    boxes = boxes.round(2)  # float32 corners: 24 pixels must stay 24
    counted = {name: ~record.ignored & (boxes[:, 3] >= height) for name, height in SUBSET_HEIGHTS.items()}
    attributes = {name: record.ignored.astype(int) if name == "invalid" else [0] * len(boxes) for name in ATTRIBUTES}
    return AnnotatedPicture(path.parent.name, path.stem, boxes, counted, attributes)
