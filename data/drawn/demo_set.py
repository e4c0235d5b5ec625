"""The demo set: pictures of drawn people with WIDER FACE's labels, in WIDER FACE's layout, whole or not at all."""

import json
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from data.drawn.people import COVERS, Person, any_colour, draw_person, imagine_person
from data.drawn.scenery import draw_light, draw_place, draw_thing
from data.ground_truth import SUBSET_HEIGHTS
from data.picture_files import encode_picture
from utils.cores import usable_cores
from utils.errors import UserError
from utils.files import atomic_folder
from utils.text_files import write_lines
from widerface_evaluate.ground_truth_files import ATTRIBUTES, AnnotatedPicture, write_ground_truth

STAMP = "demo_set.json"
MAKER = "FeatherFace demo set"
DRAWING_VERSION = 3  # raised when the same seed gives other pictures

SMALLEST_FACE, LARGEST_FACE = 6.0, 300.0  # pixels, the longer side of the box
LEAST_VISIBLE = 0.55  # share of a face that must show


@dataclass(frozen=True)
class Event:
    """A kind of scene; ranges are (least, most)."""

    name: str
    share: float  # of the pictures
    faces: tuple[int, int]
    heights: tuple[float, float]  # of the faces, pixels
    things: tuple[int, int]  # that look a little like faces


EVENTS = (
    Event("0--Parade", 0.20, (4, 16), (14, 80), (0, 6)),
    Event("1--Meeting", 0.22, (1, 7), (36, 130), (0, 6)),
    Event("2--Street", 0.20, (0, 14), (6.5, 64), (2, 10)),
    Event("3--Portrait", 0.14, (1, 2), (100, 290), (0, 5)),
    Event("4--Crowd", 0.10, (16, 60), (8, 32), (0, 4)),
    Event("5--Market", 0.14, (0, 2), (12, 90), (5, 18)),
)


@dataclass
class LabelledFace:
    """A labelled face. Numbers of the attributes as WIDER FACE has them: 0 for none, 1 and 2 for more."""

    box: list[float]  # x y w h, pixels
    landmarks: list[list[float]] | None  # five (x, y), pixels
    attributes: dict[str, int]  # the keys are ATTRIBUTES of the ground truth

    def belongs_to(self, subset: str) -> bool:
        """By height; what is heavily covered or blurred is never easy."""
        clear = self.attributes["occlusion"] < 2 and self.attributes["blur"] < 2
        return self.box[3] >= SUBSET_HEIGHTS[subset] and (clear or subset != "easy")


@dataclass
class DrawnPicture:
    """One picture of the set with its labels; the pixels are on the disk."""

    event: str
    name: str  # without .jpg
    faces: list[LabelledFace]

    @property
    def path(self) -> str:
        return f"{self.event}/{self.name}.jpg"


class Stage:
    """Who is seen in each pixel, so that nobody is hidden by those in front of them."""

    def __init__(self, height: int, width: int):
        self.owner = np.zeros((height, width), np.int32)  # 1-based number of the face, 0 for none
        self.people: list[Person] = []
        self.areas: list[int] = []  # pixels of each face, with those outside the picture

    def mask(self, polygons) -> np.ndarray:
        mask = np.zeros(self.owner.shape, np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [np.round(polygon * 16 - 8).astype(np.int32)], 1, shift=4)
        return mask.astype(bool)

    def visible(self, owner: np.ndarray) -> np.ndarray:
        """Share of each face that shows in a map of owners."""
        return np.bincount(owner.ravel(), minlength=len(self.areas) + 1)[1:] / np.maximum(self.areas, 1)

    def hide(self, polygons) -> bool:
        """Put something in front of all people, if that leaves enough of each."""
        owner = np.where(self.mask(polygons), 0, self.owner)
        if (self.visible(owner) < LEAST_VISIBLE).any():
            return False
        self.owner = owner
        return True

    def add(self, person: Person) -> bool:
        """Put a person in front, if at least half of the face is in the picture and enough is left of the others."""
        outline = person.face_outline()
        longer_side = person_box(person, self.owner.shape)[2:].max()
        if not SMALLEST_FACE <= longer_side <= LARGEST_FACE:
            return False
        face = self.mask([outline])
        area = cv2.contourArea(outline.astype(np.float32))
        if face.sum() < 0.5 * area or not self.hide(person.silhouette()):
            return False
        self.people.append(person)
        self.areas.append(max(area, face.sum()))
        self.owner[face] = len(self.people)
        return True


def person_box(person: Person, shape) -> np.ndarray:
    """x y w h in pixels of the face, as far as it lies in a picture of that shape (height, width)."""
    outline, limits = person.face_outline(), shape[1::-1]
    low, high = np.clip(outline.min(axis=0), 0, limits), np.clip(outline.max(axis=0), 0, limits)
    return np.concatenate([low, high - low])


def log_uniform(low: float, high: float, rng) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def arrange(event: Event, height: int, width: int, rng) -> Stage:
    """Find places for the people of a scene, the far (small) ones first."""
    stage = Stage(height, width)
    wanted = rng.integers(event.faces[0], event.faces[1] + 1)
    usual = log_uniform(*event.heights, rng)
    sizes = np.clip(usual * np.exp(rng.normal(0, 0.4, wanted)), event.heights[0], min(event.heights[1], 0.7 * height))
    light = rng.normal(0, 0.12, 2)
    for size in np.sort(sizes):
        for _ in range(12):
            if stage.add(imagine_person(height, width, size, light, rng)):
                break
    return stage


def draw_pole(picture: np.ndarray, stage: Stage, rng) -> None:
    """A bar before everybody, where it hides no face too much."""
    height, width = picture.shape[:2]
    x, thickness = rng.uniform(0, width), rng.uniform(0.006, 0.03) * width
    bar = np.array([(x, 0), (x + thickness, 0), (x + thickness, height), (x, height)], float)
    if rng.random() < 0.3:
        bar = bar[:, ::-1] * (width / height, height / width)
    if stage.hide([bar]):
        cv2.fillPoly(picture, [np.round(bar).astype(np.int32)], any_colour(rng), cv2.LINE_AA)


def label_face(person: Person, visible: float, extreme_light: bool, shape, rng) -> LabelledFace:
    """The label of a drawn face of which that share is not hidden by others."""
    box = person_box(person, shape)
    covered = 1 - visible * (1 - (COVERS[person.cover][1] if person.cover else 0))
    attributes = {
        "blur": int(np.digitize(person.blur / person.unit, (0.05, 0.15))),
        "expression": 0,
        "illumination": int(extreme_light),
        "invalid": int(box[3] < SUBSET_HEIGHTS["hard"]),
        "occlusion": int(np.digitize(covered, (0.05, 0.4))),
        "pose": int(abs(person.yaw) > 35 or abs(person.roll) > np.radians(30)),
    }
    landmarks = person.landmarks().round(2)
    # Annotators give no points where they cannot tell them apart or see them cut off.
    cut_off = (landmarks < 0).any() or (landmarks > shape[1::-1]).any()
    unclear = box[2:].max() < 10 or (box[2:].max() < 16 and rng.random() < 0.5) or rng.random() < 0.03
    return LabelledFace(box.round(1).tolist(), None if cut_off or unclear else landmarks.tolist(), attributes)


def draw_picture(folder: Path, seed: list[int], index: int) -> DrawnPicture:
    """Draw one picture and write it under folder/images. It depends on the seed and the index, on nothing else."""
    cv2.setNumThreads(1)  # several processes draw at once
    rng = np.random.default_rng([*seed, index])
    event = EVENTS[rng.choice(len(EVENTS), p=[event.share for event in EVENTS])]
    long_side, short_side = rng.integers(320, 449), rng.uniform(0.62, 0.9)
    height, width = int(long_side * short_side), int(long_side)
    if rng.random() < 0.3:
        height, width = width, height

    pixels = draw_place(height, width, rng)
    for _ in range(rng.integers(event.things[0], event.things[1] + 1)):
        draw_thing(pixels, log_uniform(6, 70, rng), rng)
    stage = arrange(event, height, width, rng)
    for person in stage.people:
        draw_person(pixels, person, rng)
    for _ in range(rng.choice([0, 1, 3], p=[0.8, 0.13, 0.07])):
        draw_pole(pixels, stage, rng)
    pixels, extreme_light = draw_light(pixels, rng)

    visible = stage.visible(stage.owner)
    faces = [
        label_face(person, share, extreme_light, pixels.shape, rng) for person, share in zip(stage.people, visible)
    ]
    picture = DrawnPicture(event.name, f"{event.name.replace('--', '_')}_demo_{index:05d}", faces)
    path = folder / "images" / picture.path
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(65, 96))]
    path.write_bytes(encode_picture(pixels, ".jpg", quality))
    return picture


def draw_split(folder: Path, count: int, seed: list[int]) -> list[DrawnPicture]:
    """Draw all pictures of a split, on every core, and return their labels in WIDER FACE's order: by event."""
    draw = partial(draw_picture, folder, seed)
    processes = min(usable_cores(), 8, max(1, count // 30))
    # Not forked: a caller may have threads running, and Windows cannot.
    with interrupts_ignored():  # so that processes are born deaf to Ctrl-C, which would interrupt their imports
        pool = multiprocessing.get_context("spawn").Pool(processes, ignore_interrupts)
    with pool:
        pictures = pool.map(draw, range(count), chunksize=4)
    return sorted(pictures, key=lambda picture: (picture.event, picture.name))


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ctrl-C does nothing meanwhile; only the main thread may ask for that, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the process that started this one, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_lines(picture: DrawnPicture) -> list[str]:
    """RetinaFace's format: x y w h, five times x y 0.0 (or -1 -1 -1), and how clear the face is, 0 to 1."""
    lines = [f"# {picture.path}"]
    for face in picture.faces:
        points = [(-1.0, -1.0, -1.0)] * 5 if face.landmarks is None else [(x, y, 0.0) for x, y in face.landmarks]
        numbers = [*face.box, *(number for point in points for number in point), 1 - face.attributes["blur"] / 2]
        lines.append(" ".join(map(str, numbers)))
    return lines


def validation_lines(picture: DrawnPicture) -> list[str]:
    return [f"# {picture.path}"] + [" ".join(map(str, face.box)) for face in picture.faces]


def annotate(picture: DrawnPicture) -> AnnotatedPicture:
    """The labels of a picture as the evaluation takes them."""
    faces = picture.faces
    return AnnotatedPicture(
        picture.event,
        picture.name,
        np.array([face.box for face in faces]).reshape(-1, 4),
        {subset: [face.belongs_to(subset) for face in faces] for subset in SUBSET_HEIGHTS},
        {name: [face.attributes[name] for face in faces] for name in ATTRIBUTES},
    )


def write_demo_set(folder: str | Path, train_pictures: int = 600, val_pictures: int = 120, seed: int = 0) -> None:
    """Draw the demo set into `folder`, unless exactly this set is there already.

    The set appears whole or not at all. An older demo set is replaced; UserError where the folder holds anything else.
    """
    if min(train_pictures, val_pictures) < 1 or seed < 0:
        raise UserError("the demo set needs one picture or more in each split and a seed of 0 or more")
    folder = Path(folder)
    stamp = {"maker": MAKER, "version": DRAWING_VERSION, "train": train_pictures, "val": val_pictures, "seed": seed}
    if read_stamp(folder) == stamp:
        return
    with atomic_folder(folder) as partial_folder:
        train = draw_split(partial_folder / "train", train_pictures, [seed, 0])
        val = draw_split(partial_folder / "val", val_pictures, [seed, 1])
        write_lines(partial_folder / "train" / "label.txt", chain.from_iterable(map(training_lines, train)))
        write_lines(partial_folder / "val" / "label.txt", chain.from_iterable(map(validation_lines, val)))
        write_lines(partial_folder / "val" / "wider_val.txt", (f"/{picture.path}" for picture in val))
        write_ground_truth(partial_folder / "val" / "ground_truth", [annotate(picture) for picture in val])
        write_lines(partial_folder / STAMP, [json.dumps(stamp)])


def read_stamp(folder: Path) -> dict | None:
    """What demo set stands in the folder; None where there is nothing yet."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        # A pipe would be waited for.
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8")) if (folder / STAMP).is_file() else None
    except (OSError, ValueError, RecursionError):
        stamp = None
    if not isinstance(stamp, dict) or stamp.get("maker") != MAKER:
        raise UserError(f"{folder} exists and is no demo set; give another --output, or move it away")
    return stamp
