"""Command-line flags: both spellings of a name, bounds on numbers, mistakes told in one line."""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Sequence

from utils.files import as_line

#: What flags are called elsewhere (ultralytics, yolov5, insightface, MMDetection, torchvision's references), and what
#: they are here: of several the first that a script has. SOURCE stands without a flag.
HABITS = (
    ("conf conf_thres det_thresh score_thr thresh threshold", ("confidence_threshold",)),
    ("iou iou_thres nms", ("nms_threshold",)),
    ("max_det", ("keep_top_k",)),
    ("device devices gpus", ("gpu",)),
    ("dir file image images img input source video webcam", ("SOURCE", "dataset_folder", "trained_model")),
    ("image_size img_size imgsz size", ("image_size", "protocol")),
    ("augment tta", ("protocol",)),
    ("slice slice_height slice_width", ("tile",)),
    ("model model_path", ("trained_model", "model")),
    ("checkpoint ckpt weights pretrained", ("trained_model", "init_weights")),
    ("network", ("model",)),
    ("data data_path dataset", ("training_dataset", "dataset_folder")),
    ("name out out_dir output output_dir project save_dir save_path", ("save", "save_folder", "output_folder")),
    ("save_img", ("save", "save_image")),
    ("save_crop", ("crop",)),
    ("save_txt", ("csv",)),
    ("view_img vis", ("show", "save_image")),
    ("batch", ("batch_size",)),
    ("epoch max_epoch", ("epochs",)),
    ("learning_rate lr0", ("lr",)),
    ("wd", ("weight_decay",)),
    ("resume", ("resume_net",)),
    ("workers", ("num_workers",)),
)

#: What argparse takes for a flag, known or not: no negative number, and no - alone, which is standard input.
IS_FLAG = re.compile(r"--?[^\W\d]|--\d")


class ArgumentParser(argparse.ArgumentParser):
    """argparse with `--batch_size` and `--batch-size` meaning the same, and one line and exit code 2 for a mistake."""

    def __init__(self, **options):
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: str, **options):
        if options.get("default") is not None:
            options.setdefault("help", "default: %(default)s")
        hyphenated = [name.replace("_", "-") for name in names if name.startswith("--") and "_" in name]
        return super().add_argument(*names, *hyphenated, **options)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """As argparse; a flag that is not there is told first, with the one that was meant where that can be guessed.

        Else `--source a.jpg` would get the answer that SOURCE is missing.
        """
        args = sys.argv[1:] if args is None else list(args)
        for text in args[: args.index("--")] if "--" in args else args:
            name = text.split("=")[0]
            if IS_FLAG.match(text) and " " not in text and name not in self._option_string_actions:
                self.error(f"there is no {as_line(name[:40])}{self._meant_by(name)}")
        return super().parse_args(args, namespace)

    def _meant_by(self, name: str) -> str:
        """What a flag that is not there was to be, as the end of a sentence; empty where nothing is near."""
        wanted = name.lstrip("-").replace("-", "_").lower()
        flags = [flag[2:] for flag in self._option_string_actions if flag.startswith("--") and "-" not in flag[2:]]
        places = [action.metavar for action in self._actions if not action.option_strings]
        meant = [one for habits, ours in HABITS if wanted in habits.split() for one in ours if one in (*flags, *places)]
        meant += [flag for flag in flags if len(wanted) > 2 and flag.startswith(wanted)]
        meant += difflib.get_close_matches(wanted, flags, n=1)
        if not meant:
            return ""
        return f": give {meant[0]} without a flag" if meant[0] in places else f": did you mean --{meant[0]}?"

    def refuse(self, arguments: Sequence[str] | None, names: Sequence[str], reason: str) -> None:
        """An error for the first of the flags `names` that stands in `arguments` (default: the command line).

        For flags that would change nothing there; reason: why, and what to do. Their values do not matter: a default
        that is typed is meant, too.
        """
        args = sys.argv[1:] if arguments is None else arguments
        given = {text.split("=")[0].replace("-", "_") for text in args}
        for name in names:
            if f"__{name}" in given:
                self.error(f"argument --{name}: {reason}")

    def error(self, message: str):
        self.exit(2, f"error: {as_line(message)} (see {self.prog} --help)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as written, the default behind every flag that has one; of two spellings only the first."""

    def _get_help_string(self, action):
        if action.default in (None, []):
            return action.help
        text = super()._get_help_string(action)
        if isinstance(action.default, list):
            text = text.replace("%(default)s", " ".join(map(str, action.default)).replace("%", "%%"))
        return text

    def _format_action_invocation(self, action):
        if len(action.option_strings) < 2:
            return super()._format_action_invocation(action)
        metavar = ""
        if action.nargs != 0:
            metavar = " " + self._format_args(action, self._get_default_metavar_for_optional(action))
        shown = [name for name in action.option_strings if name == action.option_strings[0] or "-" not in name[2:]]
        return ", ".join(name + metavar for name in shown)


#: Whole numbers that libraries take: beyond, PyTorch and NumPy overflow.
LARGEST = 2**31 - 1


def number(kind: type, minimum: float, maximum: float | None = None) -> Callable[[str], float]:
    """A type for add_argument: an int or a finite float within closed bounds; whole numbers go up to LARGEST."""
    bounds = f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"
    if kind is int and maximum is None:
        maximum, bounds = LARGEST, f"{bounds}, up to {LARGEST}"

    def parse(text: str):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{shown}' is no {'whole ' if kind is int else ''}number") from None
        finite = kind is int or math.isfinite(value)
        if not finite or value < minimum or (maximum is not None and value > maximum):
            raise argparse.ArgumentTypeError(f"{shown} is out of range, it must be {bounds}")
        return value

    return parse
