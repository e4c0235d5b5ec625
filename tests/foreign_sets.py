"""Sets in the formats that data.convert reads, written from one in this repo's layout.

    python -m data.demo
    python -m tests.foreign_sets data/demo_set/train results/demo_yolo yolo      # or coco, voc, wider
"""

import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from data.picture_files import picture_size_of
from data.widerface import Record, read_labels


def write_yolo(folder: Path, records: list[Record]) -> None:
    """images/ and labels/, with landmarks as yolov5-face writes them."""
    for name, record, (height, width) in pictures_of(records):
        rows = []
        for box, points, has_points in zip(record.boxes, record.landmarks, record.has_landmarks):
            centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            shares = [*(centre / (width, height)), *(size / (width, height))]
            shares += (points / (width, height)).ravel().tolist() if has_points else [-1.0] * 10
            rows.append("0 " + " ".join(f"{share:.6f}" for share in shares))
        link(record, folder / "images" / name)
        write_text(folder / "labels" / Path(name).with_suffix(".txt"), rows)


def write_coco(folder: Path, records: list[Record]) -> None:
    """faces.json and images/, with five keypoints a face where they are known."""
    images, annotations = [], []
    for name, record, (height, width) in pictures_of(records):
        images.append({"id": len(images), "file_name": name, "height": height, "width": width})
        for row, points, has_points, ignored in zip(boxes_of(record), record.landmarks, record.has_landmarks,
                                                    record.ignored):
            annotation = {"id": len(annotations), "image_id": images[-1]["id"], "category_id": 7,
                          "bbox": row, "iscrowd": int(ignored)}
            if has_points:
                annotation["keypoints"] = [value for x, y in points.tolist() for value in (round(x, 2), round(y, 2), 2)]
            annotations.append(annotation)
        link(record, folder / "images" / name)
    write_text(folder / "faces.json", [json.dumps({
        "images": images, "annotations": annotations, "categories": [{"id": 7, "name": "face"}]})])


def write_voc(folder: Path, records: list[Record]) -> None:
    """Annotations/ and JPEGImages/, which have no landmarks."""
    for name, record, (height, width) in pictures_of(records):
        lines = [f"<annotation><filename>{escape(Path(name).name)}</filename>",
                 f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
        for (x, y, w, h), ignored in zip(boxes_of(record), record.ignored):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, round(x + w, 2), round(y + h, 2)))
            box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
            lines.append(f"<object><name>face</name><difficult>{int(ignored)}</difficult><bndbox>{box}</bndbox></object>")
        link(record, folder / "JPEGImages" / name)
        write_text(folder / "Annotations" / Path(name).with_suffix(".xml"), [*lines, "</annotation>"])


def write_wider(folder: Path, records: list[Record]) -> None:
    """wider_face_split/ and images/, with whole pixels and no landmarks."""
    lines = []
    for name, record, _ in pictures_of(records):
        rows = [f"{' '.join(str(round(value)) for value in row)} 0 0 0 {int(ignored)} 0 0 "
                for row, ignored in zip(boxes_of(record), record.ignored)]
        lines += [name, str(len(rows)), *(rows or ["0 0 0 0 0 0 0 0 0 0 "])]
        link(record, folder / "images" / name)
    write_text(folder / "wider_face_split" / "wider_face_train_bbx_gt.txt", lines)


WRITERS: dict[str, Callable[[Path, list[Record]], None]] = {
    "yolo": write_yolo, "coco": write_coco, "voc": write_voc, "wider": write_wider,
}


def pictures_of(records: list[Record]) -> Iterator[tuple[str, Record, tuple[int, int]]]:
    """EVENT/NAME.jpg, record, height and width of each picture."""
    for record in records:
        yield "/".join(Path(record.path).parts[-2:]), record, picture_size_of(record.path)


def boxes_of(record: Record) -> list[list[float]]:
    """x y w h, to 1/100 pixel."""
    return np.hstack([record.boxes[:, :2], record.boxes[:, 2:] - record.boxes[:, :2]]).astype(float).round(2).tolist()


def link(record: Record, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(os.path.abspath(record.path), target)


def write_text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with label.txt and images/")
    parser.add_argument("target", type=Path, help="folder to write")
    parser.add_argument("format", choices=WRITERS)
    options = parser.parse_args()
    WRITERS[options.format](options.target, read_labels(options.source / "label.txt")[0])


if __name__ == "__main__":
    main()
