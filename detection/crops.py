"""Faces cut out of pictures: their boxes, and aligned by their landmarks as face recognisers take them."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from data.picture_files import write_picture
from detection.frames import told_if_undrawable
from detection.sources import Source, followed
from detection.suppression import Detections
from utils.errors import UserError

#: Side of an aligned face, pixels.
ALIGNED_SIDE = 112
#: Where its five landmarks lie: left eye, right eye, nose, left and right corner of the mouth, left as seen in the
#: picture. ArcFace's template (Deng et al., CVPR 2019), `arcface_src` in insightface's
#: python-package/insightface/utils/face_align.py.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

#: Folders below --crop DIR.
CROPS, ALIGNED = "crops", "aligned"
#: What faces of a picture and of a video are called: that of the source, of a video the frame, the number.
OF_PICTURE, OF_VIDEO = (re.compile(rf"(.+){frame}_\d+\.png", re.DOTALL) for frame in ("", r"_\d{6,}"))


def align_face(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A face turned, scaled and moved so that its landmarks [5, 2] lie on TEMPLATE: uint8 [112, 112, 3].

    What lies beyond the picture is black. The result is what insightface's norm_crop gives.
    """
    return cv2.warpAffine(picture, similarity(landmarks, TEMPLATE), (ALIGNED_SIDE, ALIGNED_SIDE))


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that bring points [n, 2] nearest to targets, as a matrix [2, 3].

    Nearest in the sum of squares (Umeyama, PAMI 1991). In the plane that is the complex line z -> a z + b, and its
    regression has a closed form. Points that all are one give scale 0.
    """
    z, w = (xy[:, 0] + 1j * xy[:, 1] for xy in (points.astype(float), targets))
    centred = z - z.mean()
    a = (centred.conj() @ (w - w.mean())) / max((centred.conj() @ centred).real, np.finfo(float).tiny)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def crop_face(picture: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """The part of a picture in a box, as far as it lies in it, a whole pixel or more; None where nothing does."""
    height, width = picture.shape[:2]
    left, top = np.floor(np.maximum(box[:2], 0)).astype(int)
    right, bottom = np.ceil(np.minimum(box[2:], (width, height))).astype(int)
    return picture[top:bottom, left:right] if left < right and top < bottom else None


def write_faces(folder: Path, source: Source, frame: int | None, picture: np.ndarray, detections: Detections) -> None:
    """Write the faces of a picture or frame as folder/crops/NAME_NUMBER.png and folder/aligned/NAME_NUMBER.png.

    NAME is that of the source, of a video with the number of the frame. Faces are numbered from 0 in their order, the
    best first, which is that of their records. One wholly beyond the picture's edge has no crop. UndrawableError where
    a name becomes too long.
    """
    stem = source.name.name if frame is None else f"{source.name.name}_{frame:06d}"
    for number, (box, _, landmarks) in enumerate(zip(*detections)):
        name = source.name.with_name(f"{stem}_{number}.png")
        images = {CROPS: crop_face(picture, box), ALIGNED: align_face(picture, landmarks)}
        for part, image in images.items():
            if image is not None:
                with told_if_undrawable():
                    write_picture(folder / part / name, image)


def earlier_faces(folder: Path) -> dict[tuple[Path, bool], list[Path]]:
    """What earlier runs have cut out into a folder, by Source.name and Source.is_video of what it may be of."""
    found = defaultdict(list)
    for part in (CROPS, ALIGNED):
        for path in (folder / part).rglob("*.png"):
            for pattern, is_video in ((OF_PICTURE, False), (OF_VIDEO, True)):
                if match := pattern.fullmatch(path.name):
                    found[path.relative_to(folder / part).with_name(match[1]), is_video].append(path)
    return found


def check_no_source_is_below(folder: Path, sources: Iterable[Source]) -> None:
    """UserError where faces cut out could replace a source."""
    places = {followed(folder / name) for name in (CROPS, ALIGNED)}
    for source in sources:
        if source.is_webcam:
            continue
        own = (followed(source.place), followed(source.place.parent) / source.place.name)  # a link may lie there, too
        if any(places & set(place.parents) for place in own):
            raise UserError(f"--crop {folder} could overwrite {source}: give another folder")
