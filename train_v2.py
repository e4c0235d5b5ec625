#!/usr/bin/env python3
"""Distil FeatherFace V1 (the teacher) into FeatherFace V2 (the student), or train either without a teacher.

    python train_v2.py                                            # full recipe on ./data/widerface, one GPU
    python train_v2.py --gpu 0,1                                  # two GPUs, the same batch in total
    torchrun --nnodes 2 --nproc_per_node 4 ... train_v2.py        # several machines
    python train_v2.py --resume_net weights/v2/FeatherFaceV2_last.pth
    python train_v2.py --model v1 --teacher_model none --save_folder weights/v1/    # train a teacher
    python train_v2.py --gpu cpu,cpu --image_size 256             # without a GPU, two processes of half the cores each

Writes to --save_folder: FeatherFaceV2_epoch_10.pth, _20 ..., _last, _best, _final, training_log.csv and
training_curves.png. Resuming after any epoch gives the weights of the run that was never stopped.
"""

import math
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.augment import CROP_SCALES, training_augmentations
from data.cache import CACHES, open_pictures
from data.config import STRIDES
from data.download import FOLDER_HELP
from data.loader import EpochBatchSampler, TrainingLoader, WiderFaceDataset
from data.widerface import Record, read_labels
from layers.anchors import make_anchors
from layers.criterion import Criterion
from layers.distillation import Trainee
from layers.dropblock import set_dropblock
from models import MODELS, build_model, load_backbone, load_model, load_weights
from models.fold import fold_norms
from utils import distributed
from utils.arguments import ArgumentParser, number
from utils.checkpoint import load_training_state, save_training_state
from utils.ema import WeightAverage
from utils.log import UserError, run_script
from utils.optimizer import build_optimizer
from utils.plots import plot_training
from utils.protocols import PROTOCOLS
from utils.schedule import dropblock_probability, learning_rate, mixes_pictures
from utils.training_log import TrainingLog
from utils.training_step import TrainingStep, choose_precision, compile_networks
from utils.validation import list_pictures, measure_ap, read_ground_truth

IMAGENET_BACKBONE = Path("weights/mobilenetV1X0.25_pretrain.tar")


def parse_args(arguments: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", choices=sorted(MODELS), default="v2", help="network to train")
    add("--training_dataset", type=Path, default="./data/widerface/train/label.txt", help="with images/ beside it")
    add("--val_dataset", type=Path, help="validation folder (default: val beside the training folder, if it is there)")
    add("--teacher_model", default="./weights/FeatherNetB_se.pth", help="checkpoint of the teacher, or none")
    add("--init_backbone", choices=("teacher", "imagenet", "none"),
        help="where the backbone starts (default: teacher where there is one, else none)")
    add("--init_weights", type=Path, help="checkpoint of the same network to train further, in place of init_backbone")
    add("--save_folder", type=Path, default="./weights/v2/", help="for checkpoints, log and curves")
    add("--resume_net", type=Path, help="checkpoint of this script to go on from")

    add("--epochs", type=number(int, 1), default=400)
    add("--batch_size", type=number(int, 1), default=32, help="pictures per optimiser step, over all GPUs together")
    add("--accumulate", type=number(int, 1), default=1, help="parts in which a GPU goes through its share of the batch")
    add("--image_size", type=number(int, 64), default=640, help="side of the training pictures, a multiple of 32")
    add("--crop_scales", type=number(float, 0.01), nargs="+", default=list(CROP_SCALES), metavar="SCALE",
        help="sides of the squares cut out of a picture, over its short side; above 1 they show more than the picture")
    add("--lr", type=number(float, 0), default=1e-3, help="peak learning rate")
    add("--warmup_epochs", type=number(int, 0), default=5, help="epochs of linear warm-up")
    add("--weight_decay", type=number(float, 0), default=0.05, help="of convolution weights; nothing else decays")
    add("--clip_grad", type=number(float, 1e-6), default=10.0, help="largest gradient norm of a step")
    add("--ema_decay", type=number(float, 0, 1), default=0.9998, help="of the moving average of the weights")

    add("--temperature", type=number(float, 1e-3), default=4.0, help="of class distillation")
    add("--alpha", type=number(float, 0, 1), default=0.7, help="share of distillation against the task losses")
    add("--feature_weight", type=number(float, 0), default=0.1, help="weight of feature distillation")
    add("--mixup_alpha", type=number(float, 0), default=0.2, help="of MixUp's beta distribution, 0 turns it off")
    add("--cutmix_prob", type=number(float, 0, 1), default=0.5, help="share of pictures with CutMix")
    add("--face_mask_prob", type=number(float, 0, 1), default=0.0,
        help="share of pictures in which faces get a mask drawn over nose and mouth")
    add("--dropblock_prob", type=number(float, 0, 1), default=0.1, help="DropBlock's highest probability")
    add("--dropblock_size", type=number(int, 1), default=3, help="side of DropBlock's blocks in cells")

    add("--precision", choices=("float32", "bfloat16"),
        help="of the networks (default: bfloat16 on a GPU that has it, else float32); losses are always float32")
    add("--compile", action="store_true", help="torch.compile student and teacher, which takes minutes at the start")
    add("--gpu", default="0", help="GPU numbers such as 0 or 0,1; cpu (cpu,cpu: two processes) trains without")
    add("--num_workers", type=number(int, 0), default=4, help="loader processes per GPU")
    add("--cache", choices=CACHES, default="none", help="keep all pictures, decoded, in main memory or on the device")
    add("--seed", type=number(int, 0), default=0)
    add("--eval_every", type=number(int, 0), default=10, help="epochs between AP measurements, 0 for never")
    add("--eval_protocol", choices=PROTOCOLS, default="vga", help="how pictures are scaled for that AP")
    add("--save_every", type=number(int, 1), default=10, help="epochs between numbered checkpoints")
    add("--print_freq", type=number(int, 1), default=20, help="steps between updates of the losses shown")
    options = parser.parse_args(arguments)
    if options.image_size % STRIDES[-1]:
        parser.error(f"argument --image_size: {options.image_size} is no multiple of {STRIDES[-1]}")
    return options


def check_files(options: Namespace) -> None:
    """Stop, before anything is loaded, where the run lacks a file or would overwrite one. Settles init_backbone."""
    missing = []
    if not options.training_dataset.is_file():
        missing.append(f"no training set at {options.training_dataset}\n{FOLDER_HELP}")
    if options.teacher_model != "none" and not Path(options.teacher_model).is_file():
        missing.append(f"no teacher at {options.teacher_model}: put the published FeatherNetB_se.pth there "
                       "(https://github.com/dohun-mat/FeatherFace), train one with --model v1 --teacher_model none "
                       "--save_folder weights/v1/, or pass --teacher_model none")
    if options.init_backbone is None:
        options.init_backbone = "none" if options.teacher_model == "none" else "teacher"
    if options.init_weights is not None and not options.init_weights.is_file():
        missing.append(f"no checkpoint at {options.init_weights}: --init_weights takes one of the network to train")
    if options.init_backbone == "imagenet" and not IMAGENET_BACKBONE.is_file():
        missing.append(f"no ImageNet backbone at {IMAGENET_BACKBONE}: put it there, or pass --init_backbone none")
    if missing:
        raise UserError("\n".join(missing))
    if options.init_backbone == "teacher" and options.teacher_model == "none":
        raise UserError("--init_backbone teacher needs a teacher: pass --teacher_model or another --init_backbone")
    last = checkpoint_path(options, "last")
    if options.resume_net is None and last.exists():
        raise UserError(f"{last} is of an earlier run: go on with --resume_net {last}, or choose another --save_folder")


def check_batch(options: Namespace) -> None:
    """Stop where the batch cannot be shared equally."""
    processes = max(distributed.launched_processes(), len(options.devices))
    if options.batch_size % (processes * options.accumulate):
        raise UserError(f"--batch_size {options.batch_size} cannot be split into {processes} processes x "
                        f"{options.accumulate} parts: make it a multiple of {processes * options.accumulate}")


def checkpoint_path(options: Namespace, name: str) -> Path:
    return options.save_folder / f"FeatherFace{options.model.upper()}_{name}.pth"


def main() -> None:
    options = parse_args()
    check_files(options)
    options.devices = distributed.parse_devices(options.gpu)
    check_batch(options)
    if len(options.devices) > 1 and distributed.launched_processes() == 1:
        distributed.launch(train, options, processes=len(options.devices))
    else:
        train(options)


def train(options: Namespace) -> None:
    """The whole run, as one process of one or of several. What lives as long as the run is built here."""
    device = distributed.join(options.devices)
    records, report = read_labels(options.training_dataset)
    distributed.say(str(report))
    loader, sampler = build_loader(records, options, device)
    validation_folder = find_validation_set(options)

    torch.manual_seed(options.seed)
    network, teacher = build_networks(options)
    trainee = Trainee(network, teacher).to(device, memory_format=torch.channels_last)
    optimizer = build_optimizer(trainee, options.lr, options.weight_decay)
    average = WeightAverage(network, options.ema_decay)
    step = build_step(trainee, teacher, optimizer, average, device, options)
    epochs_done, best_ap = 0, -1.0
    if options.resume_net:
        epochs_done, best_ap, changed = load_training_state(options.resume_net, trainee, optimizer, average, options)
        if changed:
            distributed.say(f"note: {options.resume_net} was trained with other flags: {' '.join(changed)}")
        if epochs_done >= options.epochs:
            raise UserError(f"{options.resume_net} has done {epochs_done} epochs: raise --epochs to go on")
    log = TrainingLog(options.save_folder / "training_log.csv", epochs_done)

    steps = len(sampler)
    progress = tqdm(total=options.epochs * steps, initial=epochs_done * steps, disable=not distributed.is_main())
    for epoch in range(epochs_done, options.epochs):
        sampler.set_epoch(epoch)
        row = train_one_epoch(step, loader, epoch, options, progress)
        if not distributed.is_main():
            continue
        names = due_checkpoints(epoch, options)
        if validation_folder and is_due(epoch, options.eval_every, options):
            row |= measure_ap(average.network, validation_folder, options.eval_protocol, device, options.num_workers)
            if row["ap_mean"] > best_ap:
                best_ap = row["ap_mean"]
                names.append("best")
        log.append(row)
        plot_training(log.rows, options.save_folder / "training_curves.png", list(step.criterion.weights))
        for path in (checkpoint_path(options, name) for name in names):
            save_training_state(path, trainee, optimizer, average, epoch + 1, best_ap, options)
        progress.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    progress.close()
    distributed.leave()


def find_validation_set(options: Namespace) -> Path | None:
    """The folder AP is measured on while training; None, and a word, where there is none."""
    folder = options.val_dataset or options.training_dataset.parent.parent / "val"
    if options.eval_every and (options.val_dataset or folder.is_dir()):
        list_pictures(folder)  # what is missing there is told now, not after the first ten epochs
        read_ground_truth(folder / "ground_truth")
        return folder
    distributed.say(f"no AP while training and no {checkpoint_path(options, 'best').name}: " +
        (f"no validation set at {folder}" if options.eval_every else "--eval_every is 0"))
    return None


def is_due(epoch: int, every: int, options: Namespace) -> bool:
    """Whether something done each `every` epochs is done after this one; always after the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == options.epochs


def due_checkpoints(epoch: int, options: Namespace) -> list[str]:
    """Names of the checkpoints to write after an epoch, apart from the best."""
    names = ["last", f"epoch_{epoch + 1}"] if (epoch + 1) % options.save_every == 0 else ["last"]
    return [*names, "final"] if epoch + 1 == options.epochs else names


def build_loader(
    records: list[Record], options: Namespace, device: torch.device
) -> tuple[TrainingLoader, EpochBatchSampler]:
    """This process's share of the batches, and the sampler that is told the epoch."""
    augmentations = training_augmentations(options.image_size, options.crop_scales, options.face_mask_prob)
    pictures = open_pictures([record.path for record in records], options.cache, device)
    dataset = WiderFaceDataset(records, pictures, options.image_size, options.seed, augmentations)
    sampler = EpochBatchSampler(
        len(dataset), options.batch_size, options.seed, distributed.rank(), distributed.world_size()
    )
    return TrainingLoader(dataset, sampler, options.num_workers, device), sampler


def build_networks(options: Namespace) -> tuple[nn.Module, nn.Module | None]:
    """The network to train, its backbone initialised as asked, and the frozen teacher if it has anything to say."""
    network = build_model(options.model)
    teacher = None
    if options.teacher_model != "none" and (options.alpha or options.feature_weight):
        teacher = fold_norms(load_model(options.teacher_model).requires_grad_(False))
    if options.init_weights is not None:
        load_weights(network, options.init_weights)
    elif options.init_backbone != "none":
        load_backbone(network, options.teacher_model if options.init_backbone == "teacher" else IMAGENET_BACKBONE)
    return network, teacher


def build_step(trainee, teacher, optimizer, average, device, options) -> TrainingStep:
    """The step of a run; the teacher goes to the device, both networks are compiled where asked for."""
    if teacher is not None:
        teacher.to(device, memory_format=torch.channels_last).eval()
    if options.compile and (reason := compile_networks(trainee, teacher, device)):
        distributed.say(f"note: trained without torch.compile, which does not work here: {reason}")
    return TrainingStep(
        model=distributed.share_gradients(trainee),
        teacher=teacher,
        criterion=Criterion(teacher is not None, options.alpha, options.feature_weight, options.temperature),
        optimizer=optimizer,
        average=average,
        anchors=make_anchors(options.image_size, options.image_size, device),
        precision=choose_precision(options.precision, device),
        parts=options.accumulate,
        clip_grad=options.clip_grad,
        cutmix_prob=options.cutmix_prob,
        mixup_alpha=options.mixup_alpha,
    )


def train_one_epoch(step, loader, epoch, options, progress) -> dict:
    """One pass over the training pictures; returns the row of the log: means over its steps."""
    criterion = step.criterion
    # All randomness of an epoch follows from its number: a resumed run draws what the unbroken one would have drawn.
    seed = int(np.random.SeedSequence([options.seed, epoch, distributed.rank()]).generate_state(1)[0])
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    step.model.train()

    steps, total_steps = len(loader), options.epochs * len(loader)
    sums = torch.zeros(len(criterion.weights) + 2, device=step.anchors.device)
    gradients, unreadable = {}, set()
    start = time.perf_counter()
    for index, batch in enumerate(loader):
        steps_done = epoch * steps + index
        rate = learning_rate(steps_done, total_steps, options.warmup_epochs * steps, options.lr)
        for group in step.optimizer.param_groups:
            group["lr"] = rate
        probability = dropblock_probability(steps_done / total_steps, options.dropblock_prob)
        set_dropblock(step.model, probability, options.dropblock_size)

        unreadable.update(batch.unreadable)
        losses, norm, measured = step(
            batch, generator, mixes_pictures(epoch, options.epochs), measure_gradients=index == 0
        )
        gradients |= measured
        sums += torch.stack([criterion.total(losses), *(losses[name] for name in criterion.weights), norm])
        progress.update()
        if (index + 1) % options.print_freq == 0 or index + 1 == steps:
            means = read_means(sums, index + 1, criterion)
            progress.set_postfix(epoch=epoch + 1, loss=f"{means['total']:.3f}", lr=f"{rate:.1e}")

    for path in sorted(unreadable):
        progress.write(f"warning: cannot read {path}, trained on an empty picture instead")
    speed = steps * options.batch_size / (time.perf_counter() - start)
    gradients = {name: value.item() for name, value in gradients.items()}
    return {"epoch": epoch + 1, "learning_rate": rate, **means, **gradients, "images_per_second": speed}


def read_means(sums: Tensor, steps: int, criterion: Criterion) -> dict[str, float]:
    """The logged means so far, over all processes; UserError where a term is no longer finite."""
    values = (distributed.sum_over_processes(sums) / (distributed.world_size() * steps)).tolist()
    means = dict(zip(["total", *criterion.weights, "gradient_norm"], values))
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"training diverged, losses are not finite: {means}; resume from the last checkpoint "
                        "with a lower --lr")
    return means


if __name__ == "__main__":
    run_script(main)
