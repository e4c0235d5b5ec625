"""The settings of notebooks/03_train_evaluate_featherface_v2.ipynb in its three modes, and the files they need."""

import os
import shutil
from pathlib import Path

import torch

from data.download import FOLDER_HELP
from data.picture_files import read_picture
from detection.drawing import contact_sheet
from detection.shipped import SHIPPED
from training.flags import parse_args
from utils.distributed import training_devices
from utils.files import write_json

#: Flags of the recipe that a reader of the notebook should see, with train_v2.py's own defaults.
SHOWN = (
    "epochs", "batch_size", "image_size", "lr", "warmup_epochs", "temperature", "alpha", "feature_weight",
    "mixup_alpha", "cutmix_prob", "dropblock_prob", "dropblock_size", "num_workers", "eval_every", "save_every",
)
RECIPE = {name: value for name, value in vars(parse_args(arguments=[])).items() if name in SHOWN}

#: What the demo changes for minutes on two CPU cores: small pictures, a high learning rate, no mixing.
SMALL = {"batch_size": 16, "image_size": 192, "lr": 6e-3, "warmup_epochs": 1, "mixup_alpha": 0.0, "cutmix_prob": 0.0,
         "dropblock_prob": 0.0, "eval_protocol": "original", "num_workers": 0}

MODES = ("demo", "quick", "full")


def settings(mode: str) -> dict:
    """All that the notebook's cells need, in plain types; ValueError for an unknown mode.

    `training` and `teacher_training` are flags of train_v2.py. The demo draws its own pictures, apart from those of
    demo.py, trains its own teacher, and writes to folders of its own; the other modes take WIDER FACE and the published
    teacher.
    """
    if mode not in MODES:
        raise ValueError(f'MODE is "{mode}": choose one of {", ".join(MODES)}')
    if mode == "demo":
        data, weights, pictures = Path("data/demo_set_notebook"), Path("weights/notebook_demo"), 240
        teacher = weights / "v1" / "FeatherFaceV1_final.pth"
        teacher_training = RECIPE | SMALL | {"epochs": 16, "eval_every": 0}
        training = RECIPE | SMALL | {"epochs": 30, "eval_every": 30}
    else:
        data, weights, pictures = Path("data/widerface"), Path("weights"), None
        teacher, teacher_training = weights / "FeatherNetB_se.pth", None
        training = RECIPE | ({"epochs": 5, "warmup_epochs": 1, "eval_every": 5} if mode == "quick" else {})
    common = {"training_dataset": f"{data}/train/label.txt", "gpu": training_devices()}
    student = weights / ("v2_quick" if mode == "quick" else "v2")
    if teacher_training is not None:
        teacher_training |= common | {"model": "v1", "teacher_model": "none", "save_folder": str(teacher.parent)}
    return {
        "mode": mode,
        "data_folder": str(data),
        "drawn_pictures": pictures,
        "teacher": str(teacher),
        "teacher_training": teacher_training,
        "student": str(student / "FeatherFaceV2_final.pth"),
        "shipped": os.path.relpath(SHIPPED),
        "save_folder": str(student),
        "results_folder": "results/notebook_demo" if mode == "demo" else "results/v2",
        "device": "0" if torch.cuda.is_available() else "cpu",
        "training": training | common | {"teacher_model": str(teacher), "save_folder": str(student)},
    }


def save_settings(config: dict) -> Path:
    """Write notebook_config.json into the folder of the results; returns its path."""
    path = Path(config["results_folder"]) / "notebook_config.json"
    write_json(path, config)
    return path


def clear_demo(config: dict) -> None:
    """Remove what an earlier pass of the demo trained, so that it trains anew; does nothing in the other modes."""
    if config["mode"] == "demo":
        shutil.rmtree(Path(config["teacher"]).parent.parent, ignore_errors=True)


def side_by_side(left: Path, right: Path, path: Path) -> Path:
    """Write the pictures of two folders, which hold the same names, in two columns; returns `path`."""
    names = sorted(picture.relative_to(left) for picture in left.rglob("*.jpg"))
    contact_sheet([read_picture(folder / name) for name in names for folder in (left, right)], path, 2, side=560)
    return path


def files_needed(config: dict) -> list[str]:
    """A line for every file or folder a training reads: there, or missing and where it comes from."""
    data = Path(config["data_folder"])
    wanted = {
        data / "train" / "label.txt": FOLDER_HELP,
        data / "train" / "images": FOLDER_HELP,
        data / "val" / "wider_val.txt": FOLDER_HELP,
        data / "val" / "ground_truth": FOLDER_HELP,
        Path(config["teacher"]): "published as FeatherNetB_se.pth at https://github.com/dohun-mat/FeatherFace; or "
                                 "train one: python train_v2.py --model v1 --teacher_model none "
                                 "--save_folder weights/v1/",
        Path("weights/mobilenetV1X0.25_pretrain.tar"): "only for --init_backbone imagenet: "
                                                       "https://github.com/biubug6/Pytorch_Retinaface",
    }
    lines = [f"there    {path}" if path.exists() else f"MISSING  {path}" for path in wanted]
    helps = dict.fromkeys(source for path, source in wanted.items() if not path.exists())
    return [*lines, *helps]
