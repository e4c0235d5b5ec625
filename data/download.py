"""Fetches WIDER FACE from its official hosts and arranges it as the training and the evaluation read it.

python -m data.download
python -m data.download --labels retinaface_gt_v1.1.zip      # faces with landmarks, fetched by hand
python -m data.download --archives ~/Downloads               # official zips that are there are not fetched again

    FOLDER/train/images/EVENT/NAME.jpg, FOLDER/train/label.txt, and ignore.txt where label.txt is made here
    FOLDER/val/images/EVENT/NAME.jpg, FOLDER/val/wider_val.txt, FOLDER/val/ground_truth/*.mat
    FOLDER/test/images/EVENT/NAME.jpg with --test

It can be stopped at any moment and goes on when run again. What is already arranged is left as it is.
Licence of the pictures: CC BY-NC-ND 4.0.
"""

import lzma
import os
import re
import shutil
import struct
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from data.formats.wider_text import parse_official_boxes
from data.widerface import CONVERTER, read_labels
from utils.arguments import ArgumentParser
from utils.errors import UserError, reason, run_script
from utils.files import atomic_folder, atomic_path, fingerprint, target_of
from utils.locks import folder_lock
from utils.text_files import write_lines

# The hosts that the official page names, http://shuoyang1213.me/WIDERFACE/
PICTURES = "https://huggingface.co/datasets/CUHK-CSE/wider_face/resolve/main/data"
EVALUATION = "http://shuoyang1213.me/WIDERFACE/support/eval_script"

#: Official zip -> its host and its SHA-256.
ARCHIVES = {
    "WIDER_train.zip": (PICTURES, "e23b76129c825cafae8be944f65310b2e1ba1c76885afe732f179c41e5ed6d59"),
    "WIDER_val.zip": (PICTURES, "f9efbd09f28c5d2d884be8c0eaef3967158c866a593fc36ab0413e4b2a58a17a"),
    "WIDER_test.zip": (PICTURES, "3b0313e11ea292ec58894b47ac4c0503b230e12540330845d70a7798241f88d3"),
    "wider_face_split.zip": (PICTURES, "c7561e4f5e7a118c249e0a5c5c902b0de90bbf120d7da9fa28d99041f68a8a5c"),
    "eval_tools.zip": (EVALUATION, "1cf49c8243fa8a1632efe7f6aa09fd7a3994ac838c9008bdbc9dd1d547bb234a"),
}

#: Folder of the arranged set -> the archive it comes from, and where in it.
SOURCES = {
    "train/images": ("WIDER_train.zip", "WIDER_train/images/"),
    "val/images": ("WIDER_val.zip", "WIDER_val/images/"),
    "val/ground_truth": ("eval_tools.zip", "eval_tools/ground_truth/"),
    "test/images": ("WIDER_test.zip", "WIDER_test/images/"),
}
BOX_ARCHIVE, BOX_FILE = "wider_face_split.zip", "wider_face_split/wider_face_train_bbx_gt.txt"

#: What to tell somebody who has no data yet.
FOLDER_HELP = """\
  expected: data/widerface/train/label.txt and data/widerface/train/images/EVENT/NAME.jpg,
            for AP data/widerface/val/wider_val.txt, val/images/EVENT/NAME.jpg and val/ground_truth/*.mat
  sources:  pictures and ground truth from http://shuoyang1213.me/WIDERFACE/, label.txt with landmarks from
            https://github.com/deepinsight/insightface/tree/master/detection/retinaface
  python -m data.download fetches and arranges them; bash train_v2.sh --demo needs none of it
  your own: python -m data.convert arranges what is labelled for YOLO, Pascal VOC or COCO (docs/own_pictures.md)"""

LANDMARK_HELP = """\
No landmarks in label.txt, only boxes. RetinaFace's annotations have them: fetch retinaface_gt_v1.1.zip by hand \
(Google Drive or Baidu, see https://github.com/deepinsight/insightface/tree/master/detection/retinaface) and run this \
again with --labels retinaface_gt_v1.1.zip"""

#: Of the folder that archives are fetched to.
LOCK = ".download.lock"

BYTES_PER_READ = 1 << 16
TIMEOUT_SECONDS = 60

#: Bytes that nothing here comes near: the largest archive has 1.9 GB, labels with landmarks have some 30 MB.
LARGEST_ARCHIVE = 4 << 30
LARGEST_LABELS = 256 << 20


def training_set_help(path: Path) -> list[str]:
    """Lines to tell where `path` should be a label.txt to train on and is no file."""
    if os.path.isdir(path):  # unlike that of pathlib it takes names of any length
        return [f"{path} is a folder: give the label.txt in it; what is labelled for YOLO, Pascal VOC or COCO gets one "
                f"by {CONVERTER} {path} --output my_faces"]
    return [f"no training set at {path}", *FOLDER_HELP.splitlines()]


def download(url: str, expected_sha256: str, path: Path) -> None:
    """Fetch to `path`, which appears when it is whole and its sum is right; until then the bytes are in `path`.part.

    A broken connection is taken up again as long as every try brings something. UserError where one brings nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    if part.exists() and not part.is_file():
        raise UserError(f"{part} is no ordinary file: move it away")
    by_hand = f"run again to go on, or fetch it by hand and put it to {path}"
    complete = False
    while not complete:
        bytes_before = size(part)
        reason: object = "the connection broke off"
        try:
            complete = fetch_rest(url, part)
        except (OSError, HTTPException) as error:
            reason = error
        if not complete and size(part) <= bytes_before:
            raise UserError(f"cannot fetch {url} ({reason}); {by_hand}")
    if fingerprint(part) != expected_sha256:
        part.unlink()
        raise UserError(f"{url} did not give the published file, what came was deleted; {by_hand}")
    os.replace(part, path)


def fetch_rest(url: str, part: Path) -> bool:
    """Append what `part` lacks of the file at `url`, or write it from the start where the host cannot do that.

    Returns whether all of it came. Raises OSError or HTTPException where the network fails.
    """
    start = size(part)
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={start}-"} if start else {}), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if start and error.code == 416:  # nothing follows these bytes
            return True
        raise
    with response:
        if response.status != 206:
            start = 0
        told = response.headers.get("Content-Length", "")
        length = int(told) if re.fullmatch("[0-9]{1,18}", told) else None  # not every host says it
        total = None if length is None else start + length
        check_space(part.parent, length or 0, part.stem)
        refuse_large(max(start, total or 0), LARGEST_ARCHIVE, url)
        progress = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem)
        with progress, open(part, "ab" if start else "wb") as file:
            while chunk := response.read(BYTES_PER_READ):
                file.write(chunk)
                progress.update(len(chunk))
                refuse_large(file.tell(), LARGEST_ARCHIVE, url)
    return total is None or size(part) == total


def refuse_large(count: int, most: int, what: object) -> None:
    """UserError where something has more bytes than it can have where it is what it should be."""
    if count > most:
        raise UserError(f"{what} has more than {most >> 20:,} MB, it is not what is wanted: fetch it by hand and look")


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def check_space(folder: Path, needed: int, what: str) -> None:
    """UserError where the disk of `folder` has not `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{what} needs {needed / 1e9:.2f} GB in {folder}, {free / 1e9:.2f} GB are left; make room")


#: What zipfile raises, by the kind of damage.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, LookupError,
              ValueError, OverflowError)


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip to read; UserError where it is damaged or lacks a file that is read."""
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is no ordinary file; move it away and run this again")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except BROKEN_ZIP as error:
        raise UserError(f"{path} is damaged or not the official zip ({reason(error)}); delete it and run this "
                        "again") from None


def extract(path: Path, inside: str, target: Path) -> None:
    """Unpack the files under `inside` of a zip to the folder `target`, which appears when all of them are there.

    UserError where the zip is damaged, has no such files, wants to write elsewhere, or the disk is too small.
    """
    with atomic_folder(target) as partial, open_archive(path) as archive:
        members = [member for member in archive.infolist()
                   if member.filename.startswith(inside) and not member.is_dir()]
        if not members:
            raise UserError(f"{path} has no files in {inside}; is it the official archive?")
        destinations = [path_within(partial, member.filename.removeprefix(inside), path) for member in members]
        check_space(target.parent, sum(member.file_size for member in members), path.name)
        for member, destination in zip(tqdm(members, desc=str(target), unit="file"), destinations):
            destination.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(destination, "wb") as file:
                shutil.copyfileobj(source, file)


def path_within(folder: Path, name: str, archive: Path) -> Path:
    """folder/name; UserError where that is not below the folder."""
    path = Path(os.path.abspath(folder / name))
    if not path.is_relative_to(os.path.abspath(folder)):
        raise UserError(f"{archive} holds '{name}', which lies outside its folder: do not trust it, fetch it again")
    return path


def write_official_labels(path: Path, train: Path) -> None:
    """label.txt and ignore.txt (what is marked invalid) in `train`, from wider_face_split.zip at `path`."""
    with open_archive(path) as archive:
        refuse_large(archive.getinfo(BOX_FILE).file_size, LARGEST_LABELS, f"{BOX_FILE} in {path}")
        text = archive.read(BOX_FILE).decode("utf-8", errors="replace")
    labels, regions = [], []
    for name, faces in parse_official_boxes(text.splitlines(), f"{BOX_FILE} in {path}"):
        rows = {True: [], False: []}
        for face in faces:
            if min(face.box[2:]) > 0:
                rows[face.is_invalid].append(" ".join(map(str, face.box)))
        labels += [f"# {name}", *rows[False]]
        if rows[True]:
            regions += [f"# {name}", *rows[True]]
    # label.txt is the last of the two: where it stands, both are whole.
    for path, lines in ((train / "ignore.txt", regions), (train / "label.txt", labels)):
        with atomic_path(path) as temporary:
            write_lines(temporary, lines)


#: By this a label file is known.
PICTURE_LINE = re.compile(rb"^(\xef\xbb\xbf)?#.*\.jpg\s*$", re.MULTILINE)


@contextmanager
def open_labels(path: Path) -> Iterator[BinaryIO]:
    """The training label.txt to read, which is the file or in it, if it is the zip of RetinaFace's annotations."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            yield file
        return
    with open_archive(path) as archive:
        names = [name for name in archive.namelist() if f"/{name}".endswith("/train/label.txt")]
        with archive.open(names[0]) if names else BytesIO() as file:
            yield file


def check_retinaface_labels(path: Path) -> None:
    """UserError where a file is neither a label.txt nor a zip with one, or far too large; read piece by piece."""
    count, names_picture, rest = 0, False, b""
    with open_labels(path) as file:
        while block := file.read(BYTES_PER_READ):
            count += len(block)
            refuse_large(count, LARGEST_LABELS, path)
            lines, _, rest = (rest + block).rpartition(b"\n")
            rest = rest[-BYTES_PER_READ:]
            names_picture = names_picture or bool(PICTURE_LINE.search(lines))
    if not names_picture and not PICTURE_LINE.search(rest):
        raise UserError(f"{path} is neither a label.txt with lines '# EVENT/NAME.jpg' nor a zip with train/label.txt")


def write_retinaface_labels(path: Path, train: Path) -> None:
    """Put the labels of `path` into place. Others that were there, with their ignore.txt, are kept as *.old."""
    label_path = target_of(train / "label.txt")  # a link stays, and what it led to is kept beside that
    with atomic_path(label_path) as temporary:
        with open_labels(path) as source, open(temporary, "wb") as file:
            shutil.copyfileobj(source, file)
        are_new = not label_path.exists() or fingerprint(label_path) != fingerprint(temporary)
        for old in (train / "ignore.txt", label_path):
            if are_new and old.exists():
                os.replace(old, old.with_name(f"{old.name}.old"))


def arrange(folder: Path, archives: Path, labels: Path | None, with_test: bool) -> None:
    """Bring `folder` into the layout at the top of this file, fetching to `archives` the zips that are not there."""
    if labels:
        check_retinaface_labels(labels)  # a mistake here shows before the long part
    label_path, list_path = folder / "train" / "label.txt", folder / "val" / "wider_val.txt"
    missing = {target: source for target, source in SOURCES.items()
               if (with_test or not target.startswith("test/")) and not has_files(folder / target)}
    needs_boxes = labels is None and not label_path.exists()
    needed = [BOX_ARCHIVE] * needs_boxes + [archive for archive, _ in missing.values()]
    absent = {name: ARCHIVES[name] for name in needed if not (archives / name).exists()}
    if absent:
        print(f"fetching to {archives}:", *(f"{host}/{name}" for name, (host, _) in absent.items()), sep="\n  ")
    for name, (host, expected_sha256) in absent.items():
        archives.mkdir(parents=True, exist_ok=True)
        with folder_lock(archives, LOCK):  # two runs would write into one half download
            download(f"{host}/{name}", expected_sha256, archives / name)
    for target, (archive, inside) in missing.items():
        extract(archives / archive, inside, folder / target)
    if labels:
        write_retinaface_labels(labels, folder / "train")
    elif needs_boxes:
        write_official_labels(archives / BOX_ARCHIVE, folder / "train")
    if not list_path.exists():
        pictures = sorted((folder / "val" / "images").glob("*/*.jpg"))
        with atomic_path(list_path) as temporary:
            write_lines(temporary, [f"/{picture.parent.name}/{picture.name}" for picture in pictures])


def has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def parse_args() -> Namespace:
    parser = ArgumentParser(prog="python -m data.download", description=__doc__)
    parser.add_argument("--folder", type=Path, default="./data/widerface", help="where to arrange the data set")
    parser.add_argument("--archives", type=Path, help="where the official zips are; default FOLDER/archives")
    parser.add_argument("--labels", type=Path, help="RetinaFace's label.txt, or retinaface_gt_v1.1.zip as it is")
    parser.add_argument("--test", action="store_true", help="also the test pictures, which have no labels")
    options = parser.parse_args()
    if options.archives and not options.archives.is_dir():
        parser.error(f"argument --archives: {options.archives} is no folder")
    if options.labels and not options.labels.is_file():
        parser.error(f"argument --labels: {options.labels} is no file")
    return options


def main() -> None:
    options = parse_args()
    try:
        arrange(options.folder, options.archives or options.folder / "archives", options.labels, options.test)
        report = read_labels(options.folder / "train" / "label.txt")[1]
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from None
    print(f"{options.folder}: {report}")
    if not report.faces_with_landmarks:
        print(LANDMARK_HELP)


if __name__ == "__main__":
    run_script(main)
