"""Sources looked at one after the other, as detect.py is asked to: found, drawn, written, shown or printed."""

import subprocess
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.picture_files import TRANSPARENCY, WITH_ALPHA, lost_in_colour, page_count, read_alpha
from detection.crops import check_no_source_is_below, earlier_faces, write_faces
from detection.drawing import blur_faces, draw_detections, opaque_where_drawn
from detection.face_records import FaceRecord, RecordFiles, record_files, records_of
from detection.finder import FaceFinder
from detection.frames import (
    Frames,
    UndrawableError,
    frame_writer,
    plan_copies,
    quiet_decoders,
    read_frames,
    why_no_frames,
)
from detection.inference import scale_picture
from detection.sources import Source, find_sources, followed
from detection.suppression import Detections
from utils.distributed import choose_device
from utils.errors import UserError, is_out_of_memory, tell
from utils.files import check_folder_is_writable

WINDOW = "faces (q stops)"
#: Longest side in the window.
WINDOW_PIXELS = 1280
#: Of the frames a video says it has. Fewer: it is damaged. Some containers only estimate their number.
COMPLETE = 0.9


def survey(options: Namespace) -> int:
    """Look at every source of detect.py's options; returns the exit code, 1 where something could not be read."""
    quiet_decoders()
    folders = [folder for folder in (options.save, options.crop) if folder]
    sources = find_sources(options.source, folders)
    copies = plan_copies(options.save, sources) if options.save else {}
    if options.crop:
        check_no_source_is_below(options.crop, sources)
    for folder in folders:
        check_folder_is_writable(folder)
    if options.show:
        check_display()
    device = choose_device(options.gpu)  # which it says, so a mistake is told before, in one line
    find = FaceFinder(options.trained_model, device, options.confidence_threshold, options.nms_threshold,
                      options.protocol, options.tile)
    run = Survey(find, options, copies)
    with record_files(options.json, options.csv) as records:
        for source in tqdm(sources, unit="file", disable=len(sources) == 1 or None):  # None: a terminal only
            if run.is_stopped:
                break
            run.look_at(source, records)
    print(run.summary())
    for remark in run.remarks():
        print(f"note: {remark}")
    for complaint in run.complaints:
        tell(f"warning: {complaint}")
    return 1 if run.complaints else 0


def check_display() -> None:
    """UserError where OpenCV can open no window."""
    # In another process: without a display Qt ends the process, and no exception tells.
    trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('trial'); cv2.waitKey(1)"]
    if subprocess.run(trial, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        raise UserError("--show: OpenCV can open no window here (no display, or opencv-python-headless is installed): "
                        "use --save DIR")


class Survey:
    """Sources looked at one after the other, and what came of it.

    find: a uint8 BGR picture [H, W, 3] -> its faces. copies: where what is drawn goes, empty where it goes nowhere.
    """

    def __init__(self, find: Callable[[np.ndarray], Detections], options: Namespace, copies: dict[Source, Path]):
        self.find = find
        self.options = options
        self.copies = copies
        self.taken = {followed(path) for path in copies.values()}
        self.taken |= {followed(source.place) for source in copies if not source.is_webcam}
        self.is_printing = not (options.save or options.crop or options.json or options.csv or options.show)
        self.earlier = earlier_faces(options.crop) if options.crop else {}
        self.is_stopped = False
        self.complaints: list[str] = []
        self.counts: Counter[str] = Counter()
        self.lost: dict[str, list[Source]] = {}  #: what drawn copies do not have of their sources
        self.with_more_pages: list[Source] = []  #: than the one that was looked at

    def look_at(self, source: Source, records: RecordFiles) -> None:
        """Find the faces of a source, and record, draw, show or print them; complain of what cannot be done."""
        frames = read_frames(source)
        if frames is None and source.is_webcam:
            raise UserError(f"{source} is not there or gives no picture: check its number and whether it is in use")
        if frames is None:
            self.complaints.append(f"cannot read {source} ({why_no_frames(source)}): skipped")
            return
        try:
            self.look_through(source, frames, records)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.complaints.append(f"{source}, {frames.size[0]} x {frames.size[1]} pixels, is too large for the memory "
                                   "here: skipped")

    def look_through(self, source: Source, frames: Frames, records: RecordFiles) -> None:
        """The same for the frames of a source that can be read."""
        done = 0
        for path in self.earlier.pop((source.name, source.is_video), ()):  # of which fewer may be found now
            path.unlink(missing_ok=True)
        with ExitStack() as stack:
            write = self.start_copy(source, frames, stack)
            alpha = self.alpha_of_copy(source, frames) if write else None
            bar = tqdm(frames.images, str(source), frames.count, leave=False, unit="frame",
                       disable=not source.is_video or None)
            try:
                for image in bar:
                    detections = self.find(image)
                    found = records_of(source.text, done if source.is_video else None, detections)
                    records.write(found)
                    self.draw(image, detections, write, alpha, is_still=not source.is_video)
                    if self.options.crop:
                        self.cut_out(source, done if source.is_video else None, image, detections)
                    if self.is_printing:
                        print_faces(source, found)
                    self.counts["face"] += len(found)
                    done += 1
                    if self.is_stopped:
                        break
            except KeyboardInterrupt:
                if not source.is_webcam:  # whose end this is; elsewhere no half a video is to stay
                    raise
                self.is_stopped = True
        self.counts["frame" if source.is_video else "picture"] += done
        if not source.is_video and page_count(source.place) > 1:
            self.with_more_pages.append(source)
        if write and not source.is_video:
            for quality in lost_in_colour(source.place):
                if alpha is None or quality != TRANSPARENCY:
                    self.lost.setdefault(quality, []).append(source)
        if not self.is_stopped and frames.count and done < COMPLETE * frames.count:
            self.complaints.append(f"{source} is damaged: {done} of its {frames.count} frames could be read")

    def start_copy(self, source: Source, frames: Frames, stack: ExitStack) -> Callable[[np.ndarray], None] | None:
        """What takes the drawn frames until the stack ends; None where no copy is asked for, or none can be made."""
        if source not in self.copies:
            return None
        try:
            return stack.enter_context(frame_writer(self.copies[source], frames, self.taken))
        except UndrawableError as error:
            self.complaints.append(str(error))
            return None

    def alpha_of_copy(self, source: Source, frames: Frames) -> np.ndarray | None:
        """How opaque the drawn copy of a picture is to be, uint8 [H, W]; None where it is opaque, or can be nothing
        else.
        """
        if source.is_video or self.copies[source].suffix.lower() not in WITH_ALPHA:
            return None
        alpha = read_alpha(source.place)
        return alpha if alpha is not None and alpha.shape[::-1] == frames.size else None

    def draw(
        self, image: np.ndarray, detections: Detections, write: Callable[[np.ndarray], None] | None,
        alpha: np.ndarray | None, is_still: bool,
    ) -> None:
        """Draw or blur the faces of a frame for the file and the window, where these are asked for.

        alpha: how opaque the file is to be, uint8 [H, W]. What is blurred gets no more visible than it was.
        """
        if not (write or self.options.show):
            return
        if self.options.blur:
            drawn = blur_faces(image, detections)
        else:
            drawn = draw_detections(image, detections, self.options.confidence_threshold)
            if alpha is not None:
                alpha = opaque_where_drawn(alpha, drawn, image)
        if write:
            try:
                write(drawn if alpha is None else np.dstack([drawn, alpha]))
            except UndrawableError as error:
                self.complaints.append(str(error))
        if self.options.show:
            self.is_stopped = is_stopped_by_hand(drawn, is_still)

    def cut_out(self, source: Source, frame: int | None, image: np.ndarray, detections: Detections) -> None:
        """Write the faces of a frame as pictures of their own."""
        try:
            write_faces(self.options.crop, source, frame, image, detections)
        except UndrawableError as error:
            self.complaints.append(str(error))

    def summary(self) -> str:
        """What was found in how much, and where it is."""
        looked_at = [counted(self.counts[unit], unit) for unit in ("picture", "frame") if self.counts[unit]]
        options = self.options
        places = [path for path in (options.save, options.crop, options.json, options.csv) if path]
        written = f"; written: {', '.join(map(str, places))}" if places else ""
        return f"{counted(self.counts['face'], 'face')} in {' and '.join(looked_at) or 'no picture'}{written}"

    def remarks(self) -> list[str]:
        """What was not looked at, and what drawn copies have lost, a line each."""
        pages = [f"of a TIFF only the first page is looked at: {counted(len(self.with_more_pages), 'picture')} with "
                 f"more, such as {self.with_more_pages[0]}"] if self.with_more_pages else []
        lost = [f"drawn copies are 8-bit BGR: {counted(len(sources), 'picture')} lost {quality}, such as {sources[0]}"
                for quality, sources in self.lost.items()]
        return pages + lost


def is_stopped_by_hand(image: np.ndarray, is_still: bool) -> bool:
    """Show a frame, a still one until a key is pressed; whether it was q, or the window was closed."""
    cv2.imshow(WINDOW, scale_picture(image, min(1, WINDOW_PIXELS / max(image.shape[:2]))))
    while True:
        key = cv2.waitKey(20 if is_still else 1)
        if key & 0xFF == ord("q") or cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) < 1:
            return True
        if key != -1 or not is_still:
            return False


def print_faces(source: Source, found: list[FaceRecord]) -> None:
    """A line a face; a picture without one is named too."""
    place = f"{source} frame {found[0]['frame']}" if found and source.is_video else str(source)
    lines = [f"{place}: face {face['score']:.2f} at x {face['x']:.0f}, y {face['y']:.0f}, "
             f"{face['width']:.0f} x {face['height']:.0f}" for face in found]
    if not found and not source.is_video:
        lines = [f"{place}: no face"]
    if lines:
        tqdm.write("\n".join(lines))


def counted(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
