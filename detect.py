#!/usr/bin/env python3
"""Find faces in pictures, videos and in what a webcam sees.

    python detect.py photo.jpg --save drawn/
    python detect.py photos/ clip.mp4 "holiday/**/*.jpg" --save drawn/ --json faces.json --csv faces.csv
    python detect.py photos/ --save anonymous/ --blur --confidence_threshold 0.2
    python detect.py photos/ --crop faces/
    python detect.py 0 --show

SOURCE is a picture, a folder with pictures and videos at any depth, a pattern in quotes (** is any depth), a video,
or the number of a webcam (./0 is a file of that name). With no flag that says where results go, a line a face is
printed. Coordinates are pixels of the upright picture: EXIF rotation is applied.

Drawn copies keep their places below the folder that holds all SOURCEs. A video keeps its size (an odd side loses its
last pixel) and its frame rate, but not its sound; a kind OpenCV cannot write becomes an .mp4. Metadata is not copied:
what --blur hides does not survive in a thumbnail. Only faces that are found are blurred, in each frame by itself: a
lower threshold misses fewer, and look at the result before you publish it. Transparency stays in PNG, TIFF and WebP;
elsewhere it is lost, and so are bits beyond 8 a channel: the end of a run says of how many pictures.

--crop writes PNGs, numbered best first, photo.jpg_0.png, photo.jpg_1.png, of a video clip.mp4_FRAME_0.png: the box
alone, and the face turned and scaled so that its eyes, nose and mouth lie where face recognisers such as ArcFace expect
them. What an earlier run cut out of the same source is removed.

What cannot be read is named at the end and skipped; the exit code is then 1.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

import argparse
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from detection import defaults
from detection.protocols import LOOKING
from detection.shipped import SHIPPED
from utils.arguments import ArgumentParser, number
from utils.errors import run_script


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="+", help="picture, folder, pattern, video or number of a webcam")
    add("--trained_model", type=Path, default=SHIPPED, help="checkpoint, .pth or .onnx")
    add("--save", type=Path, metavar="DIR", help="draw boxes, scores and landmarks into copies there")
    add("--crop", type=Path, metavar="DIR", help="cut faces out into DIR/crops, aligned, 112 x 112, into DIR/aligned")
    add("--json", type=file_of(".json"), metavar="FILE", help="a list with a record a face")
    add("--csv", type=file_of(".csv"), metavar="FILE", help="the same records as a table")
    add("--show", action="store_true", help="a window; any key goes to the next picture, q stops")
    add("--blur", action="store_true", help="make faces unrecognisable in --save and --show, and draw nothing")
    add("--protocol", choices=list(LOOKING), default=defaults.PROTOCOL,
        help="sizes at which pictures are looked at. fitted: their own, the longer side at most 1280, about that of "
             "WIDER FACE; panoramas and the like in tiles. The others as in test_widerface.py, of which original finds "
             "smaller faces in a large picture and takes parts of near faces for faces")
    add("--tile", type=number(int, defaults.SMALLEST_TILE), metavar="SIZE",
        help="look at larger pictures as a whole and in overlapping squares of SIZE pixels, too: for many tiny faces")
    add("--confidence_threshold", type=number(float, 0, 1), default=defaults.CONFIDENCE_THRESHOLD,
        help="faces have a higher score")
    add("--nms_threshold", type=number(float, 0, 1), default=defaults.NMS_THRESHOLD)
    add("--gpu", default="auto", help="GPU number, cpu, or auto: GPU 0, else the CPU")
    add("--cpu", action="store_const", const="cpu", dest="gpu", help="the same as --gpu cpu")
    options = parser.parse_args(arguments)
    if options.blur and not (options.save or options.show):
        parser.error("argument --blur: say where the pictures go, with --save DIR or --show")
    return options


def file_of(suffix: str) -> Callable[[str], Path]:
    """A type for add_argument: a file with a suffix, so that a slip does not overwrite a picture."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() != suffix or os.path.isdir(text):
            raise argparse.ArgumentTypeError(f"'{text}' must be a file that ends in {suffix}")
        return path

    return parse


def main() -> int:
    options = parse_args()
    from detection.survey import survey  # with PyTorch: --help and mistaken flags are answered without waiting for it

    return survey(options)


if __name__ == "__main__":
    run_script(main)
