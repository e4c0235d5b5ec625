#!/usr/bin/env python3
"""Distil FeatherFace V1 (the teacher) into FeatherFace V2 (the student), or train either without a teacher.

    python train_v2.py                                            # full recipe on ./data/widerface, one GPU
    python train_v2.py --gpu 0,1                                  # two GPUs, the same batch in total
    torchrun --nnodes 2 --nproc_per_node 4 ... train_v2.py        # several machines
    python train_v2.py --resume_net weights/v2/FeatherFaceV2_last.pth
    python train_v2.py --model v1 --teacher_model none --save_folder weights/v1/    # train a teacher
    python train_v2.py --gpu cpu,cpu --image_size 256             # without a GPU, two processes of half the cores each

Writes to --save_folder: FeatherFaceV2_epoch_10.pth, _20 ..., _last, _best, _final, training_log.csv,
training_curves.png and training_batch.jpg, its first pictures with their labels. Resuming after any epoch gives the
weights of the run that was never stopped, on the CPU bit for bit.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

from training.flags import first_words, parse_args

if __name__ == "__main__":
    first_words(parse_args(__doc__))  # before PyTorch is imported: --help and mistaken flags are answered at once

import math
import time
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from data.loader import TrainingLoader
from data.sampler import EpochBatchSampler
from detection.drawing import contact_sheet, draw_targets
from detection.fold import fold_norms
from detection.protocols import PROTOCOLS
from detection.validation import ValidationSet, measure_ap, open_validation_set
from layers.anchors import STRIDES, make_anchors
from layers.criterion import Criterion
from layers.dropblock import set_dropblock
from models import MODELS, build_model, load_backbone, load_model, load_weights, read_weights
from models.network import FaceNetwork
from training.checkpoint import CheckpointWriter, training_state
from training.checks import IMAGENET_BACKBONE, check_files, choose_devices, is_taught, remarks
from training.curves import plot_training
from training.ema import WeightAverage
from training.graphs import GraphedStep, how
from training.log import TrainingLog
from training.optimizer import build_optimizer, set_learning_rate
from training.progress import Progress, last_words, show_progress
from training.resuming import earlier_flags, flags_given_again, resume
from training.run_folder import (
    BATCH,
    CURVES,
    LOG,
    checkpoint_path,
    due_checkpoints,
    hold_folder,
    is_due,
    newest_checkpoint,
)
from training.schedule import dropblock_probability, learning_rate, mixes_pictures
from training.sets import build_loader, read_training_sets
from training.step import TrainingStep, choose_precision, compile_step, compiles, hold_weights_in
from training.trainee import Trainee
from utils import distributed
from utils.errors import UserError, run_script

#: Most pictures of the first batch that are drawn, and the pixels of a side of each.
DRAWN_PICTURES, DRAWN_SIDE = 16, 480

#: Seconds between two drawings of the curves, which take half a second.
CURVES_EVERY = 30

#: Share of an epoch that the host waits for a GPU which always has work: it runs ahead of it, up to --print_freq steps.
BUSY_DEVICE_WAIT = 0.02
SLOW_LOADER = "note: the GPU waits for pictures: more --num_workers, --cache ram or --cache device make it faster"


def settle(options: Namespace) -> None:
    """Decide what depends on other flags; stop where these do not go together, before anything is loaded."""
    if options.model not in MODELS:
        raise UserError(f"argument --model: there is no '{options.model}', choose one of {', '.join(MODELS)}")
    if options.eval_protocol not in PROTOCOLS:
        raise UserError(f"argument --eval_protocol: there is no '{options.eval_protocol}', "
                        f"choose one of {', '.join(PROTOCOLS)}")
    if options.image_size % STRIDES[-1]:
        raise UserError(f"argument --image_size: {options.image_size} is no multiple of {STRIDES[-1]}")
    shares = options.dataset_shares
    if shares and not sum(shares):
        raise UserError("argument --dataset_shares: all are 0, nothing is left to train on")
    if shares and len(shares) != len(options.training_dataset):
        raise UserError(f"argument --dataset_shares: {len(shares)} shares of {len(options.training_dataset)} training "
                        "sets, give one each")
    if options.resume_net is not None:
        options.init_weights = None  # where the run began is no matter any more
    if options.resume_net is not None or options.init_weights is not None:
        options.init_backbone = "none"
    elif options.init_backbone is None:
        options.init_backbone = "none" if options.teacher_model == "none" else "teacher"
    if options.init_backbone == "teacher" and options.teacher_model == "none":
        raise UserError("--init_backbone teacher needs a teacher: pass --teacher_model or another --init_backbone")


def main() -> None:
    options = parse_args(__doc__)
    if options.resume_net is not None:
        earlier = earlier_flags(options.resume_net)
        options = parse_args(__doc__, earlier=earlier)
        for flag in flags_given_again(earlier, options):
            distributed.say(f"note: given again, {flag}")
    settle(options)
    check_files(options)
    choose_devices(options)
    try:
        if len(options.devices) > 1 and distributed.launched_processes() == 1:
            distributed.launch(train, options, processes=len(options.devices))
        else:
            train(options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped: {how_to_go_on(options)}") from None


def how_to_go_on(options: Namespace) -> str:
    """What a person does after a run has stopped before its end."""
    start = newest_checkpoint(options.save_folder) or options.resume_net
    return f"go on with python train_v2.py --resume_net {start}" if start else "no epoch was done, start it again"


def train(options: Namespace) -> None:
    """The whole run, as one process of one or of several. What lives as long as the run is built here."""
    device = distributed.join(options.devices)
    written = [checkpoint_path(options, name) for name in ("last", "best", "final", f"epoch_{options.epochs}")]
    written += [options.save_folder / name for name in (LOG, CURVES, BATCH)]
    with hold_folder(options.save_folder, written) if distributed.is_main() else nullcontext():
        records, sizes = read_training_sets(options.training_dataset)
        loader, sampler = build_loader(records, sizes, options, device)
        for remark in remarks(options):
            distributed.say(f"note: {remark}")
        validation_set = find_validation_set(options) if distributed.is_main() else None

        torch.manual_seed(options.seed)
        network, teacher = build_networks(options)
        trainee = Trainee(network, teacher).to(device, memory_format=torch.channels_last)
        distributed.share_start(trainee)
        optimizer = build_optimizer(trainee, options.lr, options.weight_decay)
        average = WeightAverage(network, options.ema_decay)
        steps = options.epochs * len(sampler)
        step = build_step(trainee, teacher, optimizer, average, device, options, steps)
        distributed.say(f"{how(step)}: {steps:,} steps")
        epochs_done, best_ap = resume(step, options) if options.resume_net else (0, -1.0)
        train_epochs(step, loader, sampler, range(epochs_done, options.epochs), best_ap, validation_set, options)
    distributed.leave()


def train_epochs(
    step: TrainingStep, loader: TrainingLoader, sampler: EpochBatchSampler, epochs: range, best_ap: float,
    validation_set: ValidationSet | None, options: Namespace,
) -> None:
    """All epochs that are still to do, and what is written after each: the checkpoint to go on from last of all.

    Whatever a kill leaves out is so written again. Checkpoints are written while the next epoch goes on.
    """
    folder, device, steps = options.save_folder, step.anchors.device, len(sampler)
    log = TrainingLog(folder / LOG, epochs.start, options.tensorboard) if distributed.is_main() else None
    if log is not None and epochs:
        sampler.set_epoch(epochs.start)
        draw_first_batch(loader, folder / BATCH)
    drawn = -math.inf
    with CheckpointWriter() as writer, show_progress(options.epochs * steps, epochs.start * steps) as progress:
        for epoch in epochs:
            sampler.set_epoch(epoch)
            progress.set_description(f"epoch {epoch + 1}/{options.epochs}")
            row = train_one_epoch(step, loader, epoch, options, progress)
            if not distributed.is_main():
                continue
            writer.wait()  # for the epoch before: its checkpoints come before the row of this one
            if device.type == "cuda" and epoch == epochs.start + 1 and row["device_wait"] < BUSY_DEVICE_WAIT:
                progress.write(SLOW_LOADER)
            names = due_checkpoints(epoch, options)
            if validation_set and is_due(epoch, options.eval_every, options):
                workers = options.num_workers
                row |= measure_ap(step.average.network, validation_set, options.eval_protocol, device, workers)
                if row["ap_mean"] > best_ap:
                    best_ap = row["ap_mean"]
                    names.append("best")
            log.append(row)
            if time.monotonic() - drawn >= CURVES_EVERY or epoch + 1 == options.epochs:
                plot_training(log.rows, folder / CURVES, list(step.criterion.weights))
                drawn = time.monotonic()
            paths = [checkpoint_path(options, name) for name in [*names, "last"]]
            writer.write(training_state(step, epoch + 1, best_ap, options), paths)
            progress.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    if log is not None:
        distributed.say(last_words(log.rows, options))


def draw_first_batch(loader: TrainingLoader, path: Path) -> None:
    """A sheet of the first pictures as the networks get them, before MixUp and CutMix, with their labels."""
    images, targets, _ = loader.preview(DRAWN_PICTURES)
    pictures = draw_targets(images.permute(0, 2, 3, 1).cpu().numpy(), targets.to("cpu"), DRAWN_SIDE)
    contact_sheet(pictures, path, columns=4, side=DRAWN_SIDE)
    distributed.say(f"the first pictures with their labels: {path}")


def find_validation_set(options: Namespace) -> ValidationSet | None:
    """What AP is measured on while training; None, and a word, where there is none."""
    folder = options.val_dataset or options.training_dataset[0].parent.parent / "val"
    if options.eval_every and (options.val_dataset or folder.is_dir()):
        found = open_validation_set(folder)  # what does not fit is told now, not after the first ten epochs
        for remark in found.remarks:
            distributed.say(f"note: {remark}")
        distributed.say(f"AP while training: {folder}, {found.extent}")
        return found
    distributed.say(f"no AP while training and no {checkpoint_path(options, 'best').name}: " +
        (f"no validation set at {folder}" if options.eval_every else "--eval_every is 0"))
    return None


def build_networks(options: Namespace) -> tuple[FaceNetwork, FaceNetwork | None]:
    """The network to train, its backbone initialised as asked, and the frozen teacher if it has anything to say."""
    start = options.resume_net or options.init_weights
    network = build_model(options.model, None if start is None else read_weights(start)[1])  # it may be a pruned one
    teacher = None
    if is_taught(options):
        teacher = fold_norms(load_model(options.teacher_model).requires_grad_(False))
    if options.init_weights is not None:
        load_weights(network, options.init_weights)
    elif options.init_backbone != "none":
        load_backbone(network, options.teacher_model if options.init_backbone == "teacher" else IMAGENET_BACKBONE)
    return network, teacher


def build_step(
    trainee: Trainee, teacher: FaceNetwork | None, optimizer: Optimizer, average: WeightAverage, device: torch.device,
    options: Namespace, steps: int = 0,
) -> TrainingStep:
    """The step of a run of so many; the teacher goes to the device, and what can be is compiled where that pays."""
    precision = choose_precision(options.precision, device)
    if teacher is not None:
        hold_weights_in(precision, teacher.to(device, memory_format=torch.channels_last).eval())
    replays = device.type == "cuda" and options.graphs == "auto"
    step = (GraphedStep if replays else TrainingStep)(
        model=trainee,
        teacher=teacher,
        criterion=Criterion(
            teacher is not None, options.alpha, options.feature_weight, options.temperature, options.assignment
        ),
        optimizer=optimizer,
        average=average,
        anchors=make_anchors(options.image_size, options.image_size, device),
        precision=precision,
        parts=options.accumulate,
        clip_grad=options.clip_grad,
        cutmix_prob=options.cutmix_prob,
        mixup_alpha=options.mixup_alpha,
    )
    if compiles(options.compile, steps, device):
        compile_step(step, has_few_row_numbers=replays)
    return step


def train_one_epoch(
    step: TrainingStep, loader: TrainingLoader, epoch: int, options: Namespace, progress: Progress
) -> dict[str, float]:
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
    start, waited = time.perf_counter(), 0.0
    for index, batch in enumerate(loader):
        steps_done = epoch * steps + index
        rate = learning_rate(steps_done, total_steps, options.warmup_epochs * steps, options.lr)
        set_learning_rate(step.optimizer, rate)
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
            asked = time.perf_counter()
            means = read_means(sums, index + 1, criterion)
            waited += time.perf_counter() - asked
            progress.set_postfix(loss=f"{means['total']:.3f}", lr=f"{rate:.1e}")

    for path in sorted(unreadable):
        progress.write(f"warning: cannot read {path}, trained on an empty picture instead")
    passed = time.perf_counter() - start
    gradients = {name: value.item() for name, value in gradients.items()}
    return {"epoch": epoch + 1, "learning_rate": rate, **means, **gradients,
            "images_per_second": steps * options.batch_size / passed, "device_wait": waited / passed}


def read_means(sums: Tensor, steps: int, criterion: Criterion) -> dict[str, float]:
    """The logged means so far, over all processes; UserError where a term is no longer finite."""
    total = sums.clone()
    distributed.sum_in_place(total)
    values = (total / (distributed.world_size() * steps)).tolist()
    means = dict(zip(["total", *criterion.weights, "gradient_norm"], values))
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"training diverged, losses are not finite: {means}; resume from the last checkpoint "
                        "with a lower --lr, or in another precision than float16")
    return means


if __name__ == "__main__":
    run_script(main)
