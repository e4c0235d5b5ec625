"""What must be there before a run starts, told before anything is loaded; and what is told of its flags."""

from argparse import Namespace
from os.path import isfile  # unlike that of pathlib, it takes names of any length
from pathlib import Path

from data.download import training_set_help
from training.log import import_tensorboard
from training.run_folder import check_for_earlier_run
from training.schedule import mixes_pictures
from utils import distributed
from utils.errors import UserError

#: By three small budgets: docs/experiments/2026-11-27-mixing-one-at-a-time.md.
USELESS_MIXUP = ("MixUp brought no AP to V2 at any of the small budgets measured, -0.2 to -1.7 points: --mixup_alpha 0 "
                 "turns it off (docs/training.md)")

#: docs/experiments/2026-11-28-simota.md
LOST_FACES = ("weights that were trained by --assignment iou lose their large faces with simota first, 20 points in "
              "258 steps, and find them again slowly (docs/training.md)")

IMAGENET_BACKBONE = Path("weights/mobilenetV1X0.25_pretrain.tar")


def is_taught(options: Namespace) -> bool:
    """Whether a run has a teacher that has something to say."""
    return options.teacher_model != "none" and bool(options.alpha or options.feature_weight)


def check_files(options: Namespace) -> None:
    """Stop where the run lacks a file or would overwrite those of another."""
    missing = []
    for path in options.training_dataset:
        if not isfile(path):
            missing += training_set_help(path)
    needs_teacher = is_taught(options) or options.init_backbone == "teacher"
    if needs_teacher and not isfile(options.teacher_model):
        missing.append(f"no teacher at {options.teacher_model}: put the published FeatherNetB_se.pth there "
                       "(https://github.com/dohun-mat/FeatherFace), train one with --model v1 --teacher_model none "
                       "--save_folder weights/v1/, or pass --teacher_model none")
    if options.init_weights is not None and not isfile(options.init_weights):
        missing.append(f"no checkpoint at {options.init_weights}: --init_weights takes one of the network to train")
    if options.init_backbone == "imagenet" and not isfile(IMAGENET_BACKBONE):
        missing.append(f"no ImageNet backbone at {IMAGENET_BACKBONE}: put it there, or pass --init_backbone none")
    if missing:
        raise UserError(*missing)
    if options.tensorboard:
        import_tensorboard()
    check_for_earlier_run(options.save_folder, options.resume_net)


def choose_devices(options: Namespace) -> None:
    """Turn --gpu into `devices`; stop where one is not there or the batch cannot be shared equally."""
    options.devices = distributed.parse_devices(options.gpu)
    processes = max(distributed.launched_processes(), len(options.devices))
    if options.batch_size % (processes * options.accumulate):
        raise UserError(f"--batch_size {options.batch_size} cannot be split into {processes} processes x "
                        f"{options.accumulate} parts: make it a multiple of {processes * options.accumulate}")


def remarks(options: Namespace) -> list[str]:
    """What to know of flags that do not do what one may expect; once the processes have found each other."""
    told = []
    mixes = options.mixup_alpha and mixes_pictures(0, options.epochs) and options.batch_size > distributed.world_size()
    if mixes and options.model == "v2":
        told.append(USELESS_MIXUP)
    if options.assignment == "simota" and options.init_weights is not None:
        told.append(LOST_FACES)
    if options.warmup_epochs >= options.epochs:
        share = options.epochs / options.warmup_epochs
        told.append(f"{options.warmup_epochs} epochs of warm-up and {options.epochs} in all: the learning rate only "
                    f"rises, to {share * options.lr:.2g}")
    return told
