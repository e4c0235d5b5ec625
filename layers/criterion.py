"""The one weighted sum that training minimises."""

from torch import Tensor, nn

from layers.box_coder import decode_boxes
from layers.distillation import (
    box_distillation,
    class_distillation,
    face_probability,
    feature_distillation,
    landmark_distillation,
    trusted_boxes,
    wanted_scores,
)
from layers.matcher import BY_IOU, Assignment
from layers.multibox_loss import multibox_loss
from layers.outputs import FaceOutputs
from layers.selection import CANDIDATES, choose_anchors
from utils.boxes import overlap

#: The box loss counts twice, as in RetinaFace's PyTorch code and all that descends from it.
TASK_WEIGHTS = {"box": 2.0, "code": 1.0, "face": 1.0, "background": 1.0, "landmark": 1.0}
#: What labels and teacher share, by alpha. Neither that a labelled face is one nor landmarks of a label need a second
#: opinion: a teacher that does not see the face is wrong, and how well the student's box hits it is known.
SHARED = ("box", "code", "background")

#: Which anchors learn a face, by the names of --assignment: all that overlap it enough, or those of them by which the
#: network, as it is, finds it best.
RULES = {"iou": BY_IOU, "simota": CANDIDATES}


class Criterion(nn.Module):
    """Named losses and their weights.

    With a teacher the sum is face + landmark + (1 - alpha) * (2 box + code + background) + alpha * (2 kd_box + kd_code
    + kd_background + kd_landmark) + feature_weight * feature; without one it is the task part alone, at full weight.
    `weights` holds one number per term, in the order in which terms are logged.
    """

    def __init__(
        self, has_teacher: bool, alpha: float, feature_weight: float, temperature: float, assignment: str = "iou"
    ):
        super().__init__()
        self.temperature = temperature
        self.rule = RULES[assignment]  #: of layers.matcher.assign
        self.chooses = self.rule is CANDIDATES  #: whether anchors are chosen of what it gives
        self.weights = dict(TASK_WEIGHTS)
        if has_teacher:
            self.weights |= {name: (1 - alpha) * TASK_WEIGHTS[name] for name in SHARED}
            self.weights |= {f"kd_{name}": alpha * TASK_WEIGHTS[name] for name in (*SHARED, "landmark")}
            self.weights["feature"] = feature_weight

    def forward(
        self,
        outputs: FaceOutputs,
        projected: tuple[Tensor, ...],
        teacher: FaceOutputs | None,
        candidates: Assignment,
        anchors: Tensor,
        normalizer: Tensor,
        share: float = 1.0,
    ) -> dict[str, Tensor]:
        """Unweighted scalar terms for pictures that are `share` of the batch that `normalizer` counts.

        Of candidates that are not chosen the teacher says nothing: it may see their face, but another anchor is to.
        Terms that are sums over anchors add up over the parts of a batch by themselves; the feature term is a
        mean and takes its share.
        """
        outputs = outputs.in_float32()
        boxes = decode_boxes(outputs.boxes, anchors)
        fit = overlap(boxes, candidates.boxes)
        assignment = candidates
        if self.chooses:
            assignment = choose_anchors(candidates, fit.iou, face_probability(outputs.logits))
        losses = multibox_loss(outputs, fit, assignment, anchors, normalizer)
        if teacher is not None:
            teacher = teacher.in_float32()
            teacher_boxes, confidence = decode_boxes(teacher.boxes, anchors), face_probability(teacher.logits)
            near = overlap(boxes, teacher_boxes)
            teacher_fit = overlap(teacher_boxes, assignment.boxes)
            is_heard = assignment.positive | ~candidates.positive
            trusted = is_heard * trusted_boxes(confidence, fit.giou, teacher_fit.giou, assignment)
            losses["kd_box"], losses["kd_code"] = box_distillation(
                near, outputs.boxes, teacher.boxes, trusted, normalizer
            )
            losses["kd_background"] = class_distillation(
                outputs.logits, wanted_scores(confidence, near.iou), ~candidates.positive, self.temperature, normalizer
            )
            losses["kd_landmark"] = landmark_distillation(
                outputs.landmarks, teacher.landmarks, confidence, is_heard & ~assignment.has_landmarks, normalizer
            )
            losses["feature"] = share * feature_distillation(projected, teacher.features)
        return losses

    def task(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of what the labels teach."""
        return sum(self.weights[name] * losses[name] for name in TASK_WEIGHTS)

    def distillation(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of what the teacher teaches."""
        return sum(weight * losses[name] for name, weight in self.weights.items() if name not in TASK_WEIGHTS)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """What is minimised."""
        return self.task(losses) + self.distillation(losses)
