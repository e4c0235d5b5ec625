"""The training sets of a run, and the loader of their pictures."""

from argparse import Namespace
from pathlib import Path

import torch

from data.augment import training_augmentations
from data.label_checks import LOOKED_AT, check_frames, check_label_sets
from data.loader import TrainingDataset, TrainingLoader
from data.pictures import open_pictures
from data.sampler import EpochBatchSampler, quotas
from data.widerface import Record, read_labels
from utils import distributed


def read_training_sets(paths: list[Path]) -> tuple[list[Record], list[int]]:
    """The pictures of all training sets, one set after the other, and how many each has; says what was read.

    UserError where labels cannot be right; of several processes the first compares them with their pictures.
    """
    sets = {path: read_labels(path) for path in paths}
    for path, (_, report) in sets.items():
        distributed.say(f"{path}: {report}" if len(paths) > 1 else str(report))
    check_label_sets({path: report for path, (_, report) in sets.items()})
    for path, (records, _) in sets.items() if distributed.is_main() else ():
        for warning in check_frames(path, records, -(-LOOKED_AT // len(sets))):
            distributed.say(f"warning: {warning}")
    found = [sets[path][0] for path in paths]
    return [record for records in found for record in records], [len(records) for records in found]


def build_loader(
    records: list[Record], sizes: list[int], options: Namespace, device: torch.device
) -> tuple[TrainingLoader, EpochBatchSampler]:
    """This process's share of the batches, and the sampler that is told the epoch. sizes: pictures of each set."""
    augmentations = training_augmentations(options.image_size, options.crop_scales, options.face_mask_prob)
    pictures = open_pictures([record.path for record in records], options.cache, device)
    dataset = TrainingDataset(records, pictures, options.image_size, options.seed, augmentations)
    parts = quotas(sizes, options.dataset_shares, options.batch_size) if options.dataset_shares else []
    for path, part in zip(options.training_dataset, parts):
        distributed.say(f"{path}: {part}")
    sampler = EpochBatchSampler(
        len(dataset), options.batch_size, options.seed, distributed.rank(), distributed.world_size(), parts
    )
    return TrainingLoader(dataset, sampler, options.num_workers, device), sampler
