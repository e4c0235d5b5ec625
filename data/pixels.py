"""Pixels of training samples: the part of a picture that a sample shows, resized onto its canvas, and its colours.

The part is averaged over blocks of `reduction` pixels, then resized by the triangle filter, which is plain bilinear
interpolation where it enlarges and spans the pixels that it merges where it shrinks (as in Pillow). On the CPU that is
done in bytes, on a device in float32, picture by picture, with sizes that the host knows, so that nothing waits for the
device. The two agree within two levels; where a JPEG is decoded at reduced scale, the decoder averages the blocks.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from data.augment import Cut, FaceMask
from data.config import MEAN_BGR


def resize_onto(canvas: np.ndarray, part: np.ndarray, cut: Cut) -> None:
    """Resize the part (reduced already) to where it is shown, mirrored if it is, and fill the rest with mean colour."""
    # PyTorch resizes bytes fast only where it knows the layout as channels_last: a leading axis of one does that.
    pixels = torch.from_numpy(part)[None].permute(0, 3, 1, 2)
    shown = interpolate(pixels, (cut.shown_height, cut.shown_width), mode="bilinear", antialias=True)
    shown = shown[0].permute(1, 2, 0).numpy()
    if cut.mirrored:
        shown = cv2.flip(shown, 1)
    top, bottom, left, right = cut.margins()
    cv2.copyMakeBorder(shown, top, bottom, left, right, cv2.BORDER_CONSTANT, dst=canvas, value=MEAN_BGR)


def cut_on_device(picture: Tensor, cut: Cut, canvas: Tensor) -> None:
    """Show a part of a picture, uint8 [H, W, 3], on a canvas of mean colour, uint8 [S, S, 3]; both on one device."""
    part = picture[cut.y : cut.y + cut.height, cut.x : cut.x + cut.width][None].permute(0, 3, 1, 2).float()
    if cut.reduction > 1:
        part = avg_pool2d(part, cut.reduction)
    shown = interpolate(part, (cut.shown_height, cut.shown_width), mode="bilinear", antialias=True)
    if cut.mirrored:
        shown = shown.flip(3)
    top, bottom, left, right = cut.margins()
    place = canvas[top : cut.side - bottom, left : cut.side - right]
    place.copy_(shown[0].permute(1, 2, 0).round_().clamp_(0, 255))


class Patch(NamedTuple):
    """One colour, to be blended into a rectangle of one picture of a batch."""

    picture: int
    left: int
    top: int
    opacity: Tensor  #: uint8 [h, w], 255 hides what is below
    colour: Tensor  #: float32 [3], BGR in 0..255


def draw_mask(picture: int, mask: FaceMask) -> Patch:
    """A mask in its pixels, on the host; of size 0 where the landmarks are beside the box."""
    left, top = np.floor(mask.outline.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(mask.outline.max(axis=0)).astype(int).tolist()
    opacity = np.zeros((bottom - top, right - left), np.uint8)
    if opacity.size:
        # OpenCV counts from the centre of a pixel, in whole numbers of 1/16.
        outline = np.rint(16 * (mask.outline - (left, top) - 0.5)).astype(np.int32)
        cv2.fillConvexPoly(opacity, cv2.convexHull(outline), round(255 * mask.opacity), cv2.LINE_AA, shift=4)
    return Patch(picture, left, top, torch.from_numpy(opacity), torch.from_numpy(mask.colour))


def blend(images: Tensor, patches: list[Patch]) -> None:
    """Blend patches into uint8 [B, 3, H, W], in place, on any device."""
    for patch in patches:
        height, width = patch.opacity.shape
        place = images[patch.picture, :, patch.top : patch.top + height, patch.left : patch.left + width]
        share = patch.opacity.to(images.device, non_blocking=True) / 255
        colour = patch.colour.to(images.device, non_blocking=True)[:, None, None]
        place.copy_(torch.lerp(place.float(), colour.expand(place.shape), share).round_())


def recolour(images: Tensor, colours: Tensor) -> Tensor:
    """Change the colours of pictures: colours @ (B, G, R, 1), rounded and kept in 0..255.

    uint8 [B, 3, H, W] and float32 [B, 3, 4] -> uint8 [B, 3, H, W] in channels_last. On the CPU by OpenCV, many times as
    fast as PyTorch there.
    """
    if images.device.type != "cpu":
        return recolour_on_device(images, colours)
    result = np.empty((len(images), *images.shape[2:], 3), np.uint8)
    for image, colour, out in zip(images.permute(0, 2, 3, 1).numpy(), colours.numpy(), result):
        cv2.transform(image, colour, dst=out)
    return torch.from_numpy(result).permute(0, 3, 1, 2)


def recolour_on_device(images: Tensor, colours: Tensor) -> Tensor:
    """As recolour, by PyTorch; the two agree within a level. No matrix product: a GPU may round those more coarsely."""
    blue, green, red = images.unbind(1)
    of_blue, of_green, of_red, offset = colours[..., None, None].unbind(2)  # [B, 3, 1, 1] each
    rows = [of_blue[:, row] * blue + of_green[:, row] * green + of_red[:, row] * red + offset[:, row]
            for row in range(3)]
    return torch.stack(rows, dim=-1).round_().clamp_(0, 255).byte().permute(0, 3, 1, 2)


def normalize(images: Tensor) -> Tensor:
    """BGR pixels 0..255, [B, 3, H, W] of any dtype -> float32 as the networks take them, channels last in memory."""
    # Moved while they are bytes, a quarter of the memory.
    return images.contiguous(memory_format=torch.channels_last).float() - mean_picture(images.device)


@functools.cache
def mean_picture(device: torch.device) -> Tensor:
    """MEAN_BGR as float32 [1, 3, 1, 1], sent to a device once: each time would wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(MEAN_BGR, dtype=torch.float32, device=device).view(1, 3, 1, 1)
