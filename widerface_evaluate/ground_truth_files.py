"""Writes the four .mat files of the official WIDER FACE evaluation: one cell an event, in it one cell a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import savemat

from widerface_evaluate.wider_files import SUBSETS

#: Attributes of a face, 0 for none, 1 and 2 for more.
ATTRIBUTES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")


class AnnotatedPicture(NamedTuple):
    """A picture and its n annotated faces."""

    event: str
    name: str  #: without suffix
    boxes: np.ndarray  #: float [n, 4]: x y w h in pixels
    subsets: Mapping[str, Sequence[bool]]  #: SUBSETS -> [n]: the faces that count
    attributes: Mapping[str, Sequence[int]]  #: ATTRIBUTES -> [n]


def write_ground_truth(folder: str | Path, pictures: Sequence[AnnotatedPicture]) -> None:
    """Write wider_face_val.mat and wider_{easy,medium,hard}_val.mat into a folder, which is made where it is not there.

    load_ground_truth reads them, as do the official tools. Within an event pictures keep their order.
    """
    events = sorted({picture.event for picture in pictures})

    def per_picture(value: Callable[[AnnotatedPicture], object]) -> np.ndarray:
        return _cells([_cells([value(picture) for picture in pictures if picture.event == event]) for event in events])

    def boxes(picture: AnnotatedPicture) -> np.ndarray:
        # A picture without faces has one empty box, as in the official file.
        return np.asarray(picture.boxes, np.float64) if len(picture.boxes) else np.zeros((1, 4))

    def attribute(picture: AnnotatedPicture, name: str) -> np.ndarray:
        return np.array([[value] for value in picture.attributes[name]] or [[0]], np.uint8)

    def members(picture: AnnotatedPicture, subset: str) -> np.ndarray:
        return (np.flatnonzero(picture.subsets[subset]) + 1).astype(np.uint16).reshape(-1, 1)

    truth = {"event_list": _cells(events), "file_list": per_picture(lambda picture: picture.name),
             "face_bbx_list": per_picture(boxes)}
    for name in ATTRIBUTES:
        truth[f"{name}_label_list"] = per_picture(lambda picture, name=name: attribute(picture, name))
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    savemat(folder / "wider_face_val.mat", truth)
    for subset in SUBSETS:
        lists = {"gt_list": per_picture(lambda picture, subset=subset: members(picture, subset))}
        savemat(folder / f"wider_{subset}_val.mat", truth | lists)


def _cells(values: list) -> np.ndarray:
    """A column of MATLAB cells, [n, 1] of object."""
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column
