"""The flags of train_v2.py: the one place of every default of the recipe. Nothing here imports PyTorch."""

import os
import sys
from argparse import BooleanOptionalAction, Namespace
from pathlib import Path

from data.augment import CROP_SCALES
from data.config import CACHES
from utils.arguments import ArgumentParser, number

#: Where no number of a flag makes sense any more.
MOST = 10**6


def parse_args(
    description: str | None = None, arguments: list[str] | None = None, earlier: list[str] | None = None
) -> Namespace:
    """The flags of a command line (default: that of the process); `earlier` ones hold where it is silent."""
    return flag_parser(description).parse_args([*(earlier or ()), *(sys.argv[1:] if arguments is None else arguments)])


def first_words(options: Namespace) -> None:
    """Say what begins, before the seconds that PyTorch takes to load; once, whatever the number of processes."""
    if os.environ.get("RANK", "0") == "0":
        start = f"a run goes on from {options.resume_net}" if options.resume_net else \
            f"{options.epochs} epochs of {options.model}, to be written to {options.save_folder}"
        print(f"{start}; loading PyTorch ...", flush=True)


def flag_parser(description: str | None = None) -> ArgumentParser:
    """The flags with their defaults, none of which is needed."""
    parser = ArgumentParser(description=description)
    add = parser.add_argument
    add("--model", default="v2", help="network to train, by its name in models/__init__.py")
    add("--training_dataset", type=Path, nargs="+", metavar="LABELS",
        default=[Path("./data/widerface/train/label.txt")],
        help="label.txt with images/ beside it; several are shuffled together")
    add("--dataset_shares", type=number(float, 0, MOST), nargs="+", metavar="SHARE",
        help="of each training set in the pictures of an epoch (default: as many pictures as it has)")
    add("--val_dataset", type=Path, help="validation folder (default: val beside the training folder, if it is there)")
    add("--teacher_model", default="./weights/FeatherNetB_se.pth", help="checkpoint of the teacher, or none")
    add("--init_backbone", choices=("teacher", "imagenet", "none"),
        help="where the backbone starts (default: teacher where there is one, else none)")
    add("--init_weights", type=Path, help="checkpoint of the same network to train further, in place of init_backbone")
    add("--save_folder", type=Path, default="./weights/v2/", help="for checkpoints, log and curves")
    add("--resume_net", type=Path, help="checkpoint of a run to go on from, with its flags and folder")

    add("--epochs", type=number(int, 1, MOST), default=400, help="passes over the training pictures")
    add("--batch_size", type=number(int, 1, 2**16), default=32, help="pictures per optimiser step, over all GPUs")
    add("--accumulate", type=number(int, 1, 2**16), default=1, help="parts in which a GPU takes its share of the batch")
    add("--image_size", type=number(int, 64, 4096), default=640, help="side of the training pictures, a multiple of 32")
    add("--crop_scales", type=number(float, 0.01, 100), nargs="+", default=list(CROP_SCALES), metavar="SCALE",
        help="sides of the squares cut out of a picture, over its short side; above 1 they show more than the picture")
    add("--lr", type=number(float, 0, MOST), default=1e-3, help="peak learning rate")
    add("--warmup_epochs", type=number(int, 0, MOST), default=5, help="epochs of linear warm-up")
    add("--weight_decay", type=number(float, 0, MOST), default=0.05, help="of convolution weights; nothing else decays")
    add("--clip_grad", type=number(float, 1e-6, MOST), default=10.0, help="largest gradient norm of a step")
    add("--ema_decay", type=number(float, 0, 1), default=0.9998, help="of the moving average of the weights")

    add("--assignment", choices=("iou", "simota"), default="iou",
        help="anchors that learn a face: all that overlap it, or those by which the network finds it best")
    add("--temperature", type=number(float, 1e-3, MOST), default=4.0, help="of class distillation")
    add("--alpha", type=number(float, 0, 1), default=0.7, help="share of the teacher in what it and labels teach")
    add("--feature_weight", type=number(float, 0, MOST), default=0.1, help="weight of feature distillation")
    add("--mixup_alpha", type=number(float, 0, MOST), default=0.2,
        help="of MixUp's beta distribution; all pictures without CutMix get MixUp, 0 turns it off")
    add("--cutmix_prob", type=number(float, 0, 1), default=0.5, help="share of pictures with CutMix")
    add("--face_mask_prob", type=number(float, 0, 1), default=0.0,
        help="share of pictures in which faces get a mask drawn over nose and mouth")
    add("--dropblock_prob", type=number(float, 0, 1), default=0.1, help="DropBlock's highest probability")
    add("--dropblock_size", type=number(int, 1, 2**10), default=3, help="side of DropBlock's blocks in cells")

    add("--precision", choices=("float32", "bfloat16", "float16"),
        help="of the networks (default: bfloat16 on a GPU that has it, else float32); losses are always float32")
    add("--compile", nargs="?", choices=("auto", "on", "off"), const="on", default="auto",
        help="torch.compile networks and losses, which takes minutes at the start; auto: in long runs on a GPU")
    add("--graphs", choices=("auto", "off"), default="auto", help="on a GPU, launch a step as CUDA graphs, or plainly")
    add("--gpu", default="auto", help="auto (GPU 0, else the CPU), numbers such as 0,1, cpu, or cpu,cpu: two processes")
    add("--num_workers", type=number(int, 0, 2**8), default=4, help="loader processes per GPU")
    add("--cache", choices=CACHES, default="none", help="keep all pictures, decoded, in main memory or on the device")
    add("--seed", type=number(int, 0, 2**63 - 1), default=0, help="of all that is drawn at random")
    add("--eval_every", type=number(int, 0, MOST), default=10, help="epochs between AP measurements, 0 for never")
    add("--eval_protocol", default="vga", help="how pictures are scaled for that AP, as in test_widerface.py")
    add("--save_every", type=number(int, 1, MOST), default=10, help="epochs between numbered checkpoints")
    add("--tensorboard", action=BooleanOptionalAction, default=False,
        help="write the numbers of training_log.csv for TensorBoard, too, into --save_folder")
    add("--print_freq", type=number(int, 1, MOST), default=20, help="steps between updates of the losses shown")
    return parser
