"""MixUp and CutMix of detection batches, on the device, with their targets.

What happens to which picture is planned on the CPU; pixels and faces are then mixed without a loop over pictures and
without anything read back from the device. Every picture meets one partner of the batch, so the mixed batch has one row
for each face in its own picture and one for the same face in the picture it was mixed into: 2F rows, ABSENT where it is
not seen.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.augment import IGNORE_VISIBLE, KEEP_VISIBLE, MIN_REGION_PIXELS
from data.config import MIN_FACE_PIXELS
from data.targets import ABSENT, FACE, IGNORED, Targets
from utils.boxes import area, intersection

#: Weight of a picture in MixUp from which its boxes are positives, and from which they are at least not background.
KEEP_WEIGHT = 0.3
IGNORE_WEIGHT = 0.1

#: Covered share of a face from which CutMix ignores it, and beyond which it drops it.
IGNORE_COVERED = 0.25
DROP_COVERED = 1 - IGNORE_VISIBLE

#: Area of the pasted rectangle over that of the picture, and its longest side ratio: at 2 half the area just fits.
CUT_AREA = (0.1, 0.5)
CUT_ASPECT = 2.0


class MixPlan(NamedTuple):
    """What is to happen to each of B pictures, on the CPU.

    A picture becomes weight * itself + (1 - weight) * partner (MixUp), and its rectangle is the partner's (CutMix).
    Neutral are weight 1 and an empty rectangle; at most one of the two differs from that.
    """

    partner: Tensor  #: int64 [B], a permutation without fixed points
    weight: Tensor  #: float32 [B], in 0 .. 1
    rectangle: Tensor  #: float32 [B, 4], xyxy in whole pixels

    def to(self, device) -> "MixPlan":
        """The same plan on another device."""
        return MixPlan(*(field.to(device, non_blocking=True) for field in self))


def mix_batch(images: Tensor, targets: Targets, mix: MixPlan | None) -> tuple[Tensor, Targets]:
    """Mix pictures and faces as planned; images [B, 3, H, W], pixels in 0..255, of any type, all on one device.

    Returns float32 pixels of the same range and 2F rows of targets, or the F rows as they came where there is no plan.
    """
    if mix is None:
        return images.float(), targets
    return mix_images(images, mix), mix_targets(targets, mix)


def plan_mix(
    pictures: int, height: int, width: int, generator: torch.Generator, cutmix_prob: float, mixup_alpha: float
) -> MixPlan | None:
    """Choose partners, MixUp weights (Beta(alpha, alpha), Zhang et al., ICLR 2018) and CutMix rectangles on the CPU.

    CutMix for each picture with its probability, else MixUp; 0 turns either off. None where there is nothing to mix.
    generator: of the CPU.
    """
    if pictures < 2 or (cutmix_prob == 0 and mixup_alpha == 0):
        return None
    # numpy has the Beta distribution with a generator of one's own; torch does not.
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    order = rng.permutation(pictures)
    partner = np.empty(pictures, dtype=np.int64)
    partner[order] = np.roll(order, 1)  # a ring: nobody is mixed with itself

    cut = rng.random(pictures) < cutmix_prob
    weight = np.ones(pictures)
    if mixup_alpha > 0:
        weight = np.where(cut, 1, rng.beta(mixup_alpha, mixup_alpha, pictures))

    aspect = CUT_ASPECT ** rng.uniform(-1, 1, pictures)
    share = rng.uniform(*CUT_AREA, pictures)
    sides = np.rint(np.sqrt(share[:, None] * np.stack([aspect, 1 / aspect], axis=1)) * (width, height))
    corner = np.floor(rng.random((pictures, 2)) * ((width, height) - sides + 1))
    rectangle = np.concatenate([corner, corner + sides], axis=1) * cut[:, None]
    return MixPlan(torch.from_numpy(partner), torch.from_numpy(weight).float(), torch.from_numpy(rectangle).float())


def mix_images(images: Tensor, mix: MixPlan) -> Tensor:
    """[B, 3, H, W] -> float32 alike; the own share of a pixel is 0 in the rectangle and the weight elsewhere."""
    height, width = images.shape[-2:]
    left, top, right, bottom = mix.rectangle[:, :, None].unbind(1)
    x = torch.arange(width, device=images.device)
    y = torch.arange(height, device=images.device)
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]
    share = torch.where(inside, 0, mix.weight[:, None, None])[:, None]
    return torch.lerp(images[mix.partner].float(), images.float(), share)


def mix_targets(targets: Targets, mix: MixPlan) -> Targets:
    """F rows -> 2F rows: the faces in their own pictures, then the same faces in the pictures they were mixed into."""
    own, partner = _faces_at_home(targets, mix), _faces_at_partner(targets, mix)
    return Targets(*(torch.cat(fields) for fields in zip(own, partner)))


def _faces_at_home(targets: Targets, mix: MixPlan) -> Targets:
    """The faces where they were, under what was pasted or blended over them."""
    rectangle, weight = mix.rectangle[targets.picture], mix.weight[targets.picture]
    covered = _share_inside(targets.boxes, rectangle)
    hidden = _points_inside(targets.landmarks, rectangle).any(dim=1)
    # Of a region anything that is left is still no background.
    is_seen = torch.where(targets.role == FACE, covered <= DROP_COVERED, covered < 1)
    role = _lower(targets.role, covered < IGNORE_COVERED, is_seen)
    role = _lower(role, weight >= KEEP_WEIGHT, weight >= IGNORE_WEIGHT)
    return targets._replace(
        has_landmarks=targets.has_landmarks & ~hidden & (role == FACE), role=role, weights=targets.weights * weight
    )


def _faces_at_partner(targets: Targets, mix: MixPlan) -> Targets:
    """The faces as the picture shows them whose partner theirs is."""
    picture = torch.argsort(mix.partner)[targets.picture]  # the inverse permutation
    rectangle = mix.rectangle[picture]
    pasted = area(rectangle) > 0
    weight = torch.where(pasted, 1, 1 - mix.weight[picture])
    whole = torch.full_like(rectangle, math.inf)  # MixUp shows the partner as a whole
    whole[:, :2].neg_()
    window = torch.where(pasted[:, None], rectangle, whole)
    top_left = torch.maximum(targets.boxes[:, :2], window[:, :2])
    bottom_right = torch.minimum(targets.boxes[:, 2:], window[:, 2:])
    short_side = (bottom_right - top_left).amin(dim=1)
    visible = _share_inside(targets.boxes, window)

    is_seen = torch.where(targets.role == FACE, visible >= IGNORE_VISIBLE, short_side >= MIN_REGION_PIXELS)
    is_face = (visible >= KEEP_VISIBLE) & (short_side >= MIN_FACE_PIXELS)
    role = _lower(targets.role, is_face, is_seen)
    role = _lower(role, weight >= KEEP_WEIGHT, weight >= IGNORE_WEIGHT)
    inside = _points_inside(targets.landmarks, window).all(dim=1)
    return Targets(
        picture=picture,
        # Of a box that is not in the window nothing sound is left; its row is absent and keeps the box it had.
        boxes=torch.where((role == ABSENT)[:, None], targets.boxes, torch.cat([top_left, bottom_right], dim=1)),
        landmarks=targets.landmarks,
        has_landmarks=targets.has_landmarks & inside & (role == FACE),
        role=role,
        weights=targets.weights * weight,
    )


def _lower(role: Tensor, is_face: Tensor, is_seen: Tensor) -> Tensor:
    """A face that is none any more becomes IGNORED, and whatever is not seen any more ABSENT."""
    role = torch.where(is_face, role, role.clamp(max=IGNORED))
    return torch.where(is_seen, role, ABSENT)


def _share_inside(boxes: Tensor, window: Tensor) -> Tensor:
    """Share of each box's area inside the window of the same row; [F, 4] each -> [F]."""
    return intersection(boxes, window) / area(boxes).clamp(min=torch.finfo(boxes.dtype).tiny)


def _points_inside(points: Tensor, window: Tensor) -> Tensor:
    """[F, 5, 2] points, [F, 4] windows -> bool [F, 5]."""
    return ((points >= window[:, None, :2]) & (points <= window[:, None, 2:])).all(dim=2)
