"""Which of a face's candidate anchors learn it: those by which the network, as it is, finds it best."""

import torch
from torch import Tensor
from torch.nn import functional

from data.targets import FACE, Targets
from layers.matcher import Assignment, Rule, may_choose

#: What a face may be learnt by.
CANDIDATES = Rule(iou=0.2, least=9)
#: At most so many anchors learn a face.
MOST_ANCHORS = 10
#: About as many do, on average, once a network is trained.
USUAL_ANCHORS = 5
#: What -log(IoU) costs against -log(score).
IOU_COST = 3.0
#: IoUs are added up in whole parts of this: in any order the sum is the same to the last bit.
PARTS = 2**20
#: Where logarithms end.
NEARLY_NOTHING = 1e-8
#: In place of the number of a face.
NO_FACE = torch.iinfo(torch.int32).max


@torch.no_grad()
def choose_anchors(candidates: Assignment, iou: Tensor, confidence: Tensor) -> Assignment:
    """Of candidates, as assign gives them, those that learn their face, by SimOTA (Ge et al., YOLOX, 2021).

    iou: of each anchor's own decoded box and its face; confidence: its face probability; [B, A] each, in float32.

    A candidate costs -log(confidence) - 3 log(iou). A face gets as many of the cheapest as the ten largest IoUs of its
    candidates add up to, rounded down, and one at least. The others have no face any more. Of candidates that cost the
    same the first ones count.

    Unlike there, candidates are told by their anchors' IoU, not by centres, and have one face before any is chosen.
    """
    is_candidate = candidates.positive.flatten()
    place = _worth_sorting(is_candidate)
    # What is no candidate has a number that no face has, and comes last.
    face = torch.where(is_candidate, candidates.face.flatten(), NO_FACE)[place].long()
    iou, confidence = (values.flatten()[place].clamp(NEARLY_NOTHING, 1) for values in (iou, confidence))

    faces, best = _sort_by_face(face, 1 - iou)
    first, stop = (torch.searchsorted(faces, faces, right=right) for right in (False, True))
    sums = functional.pad((iou[best] * PARTS).long().cumsum(0), (1, 0))
    count = (sums[torch.minimum(first + MOST_ANCHORS, stop)] - sums[first]) // PARTS

    # The candidates of a face stand at the same places, whatever they are sorted by.
    _, cheapest = _sort_by_face(face, (confidence.log() + IOU_COST * iou.log()).abs())
    is_chosen = torch.arange(len(faces), device=faces.device) < first + count.clamp(min=1)
    chosen = torch.zeros_like(is_candidate).scatter_(0, place[cheapest], is_chosen)
    chosen = (chosen & is_candidate).view_as(candidates.weights)
    return candidates._replace(
        weights=torch.where(chosen, candidates.weights, 0.0), has_landmarks=candidates.has_landmarks & chosen
    )


def usual_weight(targets: Targets) -> Tensor:
    """About the sum of the weights of all anchors that learn the faces of targets, a scalar.

    Known before the networks have run, unlike the sum itself: processes add theirs up before. Added up in float64, so
    that absent rows change nothing, to the last bit.
    """
    return USUAL_ANCHORS * torch.where(targets.role == FACE, targets.weights, 0.0).sum(dtype=torch.float64).float()


def _worth_sorting(is_candidate: Tensor) -> Tensor:
    """Indices of candidates; of all anchors where their number must not depend on values."""
    if may_choose(is_candidate):
        return is_candidate.nonzero()[:, 0]
    return torch.arange(len(is_candidate), device=is_candidate.device)


def _sort_by_face(face: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The faces [N] in order, and the order: by face, where that is the same by values >= 0, else as they come."""
    # Floats that are not negative are in the order of their bits.
    keys, order = (face << 32 | values.view(torch.int32)).sort(stable=True)
    return keys >> 32, order
