"""MixUp and CutMix: which pixel comes from where, and what becomes of the faces at each threshold."""

from functools import partial

import pytest
import torch

from data.mixing import CUT_AREA, MixPlan, mix_batch, mix_images, mix_targets, plan_mix
from data.targets import ABSENT, FACE, IGNORED
from tests import helpers
from tests.helpers import noise

SIZE = 100

#: Landmarks are spread over the middle of the box.
make_targets = partial(helpers.make_targets, places=((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)))


def swap(weight=(1.0, 1.0), rectangle=((0, 0, 0, 0), (0, 0, 0, 0))):
    """Two pictures, each the other's partner."""
    return MixPlan(torch.tensor([1, 0]), torch.tensor(weight), torch.tensor(rectangle, dtype=torch.float32))


def test_mixup_pixels():
    images = noise(2, SIZE, SIZE)
    mixed = mix_images(images, swap(weight=(0.3, 1.0)))
    a, b = images.double()
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed[0].double(), 0.3 * a + 0.7 * b, atol=1e-4, rtol=0)
    assert torch.equal(mixed[1].double(), b)


def test_cutmix_pixels():
    images = noise(2, 60, 90)
    mixed = mix_images(images, swap(rectangle=((10, 20, 50, 45), (0, 0, 0, 0))))
    expected = images[0].clone()
    expected[:, 20:45, 10:50] = images[1, :, 20:45, 10:50]
    assert torch.equal(mixed[0], expected.float())
    assert torch.equal(mixed[1], images[1].float())


def test_float_pixels_are_mixed_alike():
    images = noise(2, SIZE, SIZE)
    mix = swap(weight=(0.4, 1.0), rectangle=((0, 0, 0, 0), (5, 5, 50, 60)))
    assert torch.equal(mix_images(images, mix), mix_images(images.float(), mix))


@pytest.mark.parametrize(
    "weight, own, partner",
    [
        (1.0, FACE, ABSENT),
        (0.95, FACE, ABSENT),
        (0.85, FACE, IGNORED),
        (0.6, FACE, FACE),
        (0.3, FACE, FACE),
        (0.25, IGNORED, FACE),
        (0.1, IGNORED, FACE),
        (0.05, ABSENT, FACE),
        (0.0, ABSENT, FACE),
    ],
)
def test_mixup_roles_and_weights(weight, own, partner):
    faces = make_targets((0, [10, 10, 40, 40]), (1, [50, 50, 90, 90]), (1, [0, 0, 30, 30], IGNORED))
    mixed = mix_targets(faces, swap(weight=(weight, 1.0)))
    in_first = mixed.picture == 0
    assert mixed.role[in_first].tolist() == [own, partner, min(partner, IGNORED)]
    torch.testing.assert_close(mixed.weights[in_first], torch.tensor([weight, 1 - weight, 1 - weight]))
    assert mixed.has_landmarks[in_first].tolist() == [own == FACE, partner == FACE, False]
    # Mixing moves nothing.
    assert torch.equal(mixed.boxes, torch.cat([faces.boxes] * 2))
    assert torch.equal(mixed.landmarks, torch.cat([faces.landmarks] * 2))
    # The second picture is left as it was.
    assert mixed.role[~in_first].tolist() == [FACE, IGNORED, ABSENT]


@pytest.mark.parametrize(
    "left, own, partner",
    [
        # A face of 40 px with its left edge here; the rectangle reaches from 0 to 60.
        (60, FACE, ABSENT),
        (51, FACE, ABSENT),  # 22.5 % inside
        (50, IGNORED, IGNORED),  # 25 %
        (41, IGNORED, IGNORED),  # 47.5 %
        (37, IGNORED, IGNORED),  # 57.5 %
        (36, IGNORED, FACE),  # 60 %
        (30, IGNORED, FACE),  # 75 %
        (29, ABSENT, FACE),  # 77.5 %
        (20, ABSENT, FACE),
    ],
)
def test_cutmix_roles(left, own, partner):
    box = [left, 20, left + 40, 60]
    mixed = mix_targets(make_targets((0, box), (1, box)), swap(rectangle=((0, 0, 60, 100), (0, 0, 0, 0))))
    in_first = mixed.picture == 0
    assert mixed.role[in_first].tolist() == [own, partner]
    assert mixed.role[~in_first].tolist() == [FACE, ABSENT]
    assert (mixed.weights[in_first][mixed.role[in_first] == FACE] == 1).all()
    shown = mixed.boxes[in_first].tolist()
    assert shown[0] == box
    assert shown[1] == ([left, 20, min(left + 40, 60), 60] if partner != ABSENT else box)


def test_cutmix_landmarks():
    """A covered or a cut-off landmark makes the five invalid; none is moved."""
    rectangle = ((0, 0, 60, 100), (0, 0, 0, 0))
    # Landmarks lie from 30 % to 70 % of the width.
    faces = make_targets((0, [52, 0, 92, 40]), (0, [45, 50, 95, 90]), (1, [20, 0, 60, 40]), (1, [29, 50, 79, 90]))
    mixed = mix_targets(faces, swap(rectangle=rectangle))
    in_first = mixed.picture == 0
    assert mixed.role[in_first].tolist() == [FACE, IGNORED, FACE, FACE]
    assert mixed.has_landmarks[in_first].tolist() == [True, False, True, False]
    assert torch.equal(mixed.landmarks, torch.cat([faces.landmarks] * 2))

    # A small patch over one eye covers little of the face, but the eye.
    face = make_targets((0, [0, 0, 100, 100]))
    covered = mix_targets(face, swap(rectangle=((25, 35, 35, 45), (0, 0, 0, 0))))
    assert covered.role[0] == FACE and not covered.has_landmarks[0]


def test_what_is_cut_too_small_is_no_face():
    faces = make_targets((1, [52, 10, 60, 40]), (1, [55.5, 50, 62, 80]), (1, [50, 0, 150, 5], IGNORED))
    mixed = mix_targets(faces, swap(rectangle=((0, 0, 60, 100), (0, 0, 0, 0))))
    pasted = mixed.picture == 0
    assert mixed.role[pasted].tolist() == [FACE, IGNORED, IGNORED]
    assert mixed.boxes[pasted].tolist() == [[52, 10, 60, 40], [55.5, 50, 60, 80], [50, 0, 60, 5]]


def test_what_cutmix_leaves_of_a_region_is_no_background():
    whole = [0, 0, 100, 100]
    regions = make_targets((0, whole, IGNORED), (1, whole, IGNORED))
    mixed = mix_targets(regions, swap(rectangle=((0, 0, 99, 100), (0, 0, 100, 100))))
    assert mixed.role[:2].tolist() == [IGNORED, ABSENT]  # a strip is left of the first, nothing of the second


def test_ignored_and_absent_rows_never_become_faces():
    box = [10, 10, 50, 50]
    faces = make_targets((0, box, IGNORED), (0, box, ABSENT), (1, box, IGNORED), (1, box, ABSENT))
    for mix in (swap(weight=(0.5, 0.5)), swap(rectangle=((0, 0, 70, 70), (0, 0, 30, 30)))):
        role = mix_targets(faces, mix).role
        assert (role[[1, 3, 5, 7]] == ABSENT).all()
        assert (role[[0, 2, 4, 6]] < FACE).all() and (role == IGNORED).any()


@pytest.mark.parametrize("cutmix_prob, mixup_alpha", [(1.0, 0.0), (0.0, 0.2)])
def test_faces_go_where_their_pixels_go(cutmix_prob, mixup_alpha):
    """Each picture has one colour channel value of its own: under a face that is kept lies enough of its picture."""
    pictures = 7
    images = torch.zeros(pictures, 3, SIZE, SIZE)
    faces = make_targets(*[(i, [10 * i, 8 * i, 10 * i + 20, 8 * i + 20]) for i in range(pictures)])
    home = torch.cat([faces.picture] * 2)
    kept_elsewhere = 0
    for seed in range(20):
        mix = plan_mix(pictures, SIZE, SIZE, torch.Generator().manual_seed(seed), cutmix_prob, mixup_alpha)
        targets = mix_targets(faces, mix)
        for row in (targets.role == FACE).nonzero()[:, 0]:
            marked = images.clone()
            marked[home[row]] = 1
            left, top, right, bottom = targets.boxes[row].int().tolist()
            share = mix_images(marked, mix)[targets.picture[row], 0, top:bottom, left:right].mean()
            if mixup_alpha:
                torch.testing.assert_close(share, targets.weights[row])
            assert share > (0.299 if mixup_alpha else 0.75 if row < pictures else 0.999)
            kept_elsewhere += int(row >= pictures)
    assert kept_elsewhere > 10


def mix_by(images, faces, generator, cutmix_prob=0.5, mixup_alpha=0.2):
    """Plan and mix."""
    mix = plan_mix(len(images), *images.shape[2:], generator, cutmix_prob, mixup_alpha)
    return mix_batch(images, faces, mix.to(images.device) if mix else None)


def test_boxes_stay_sound():
    boxes = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 60
    boxes[:, 2:] += boxes[:, :2] + 0.5
    faces = make_targets(*[(i % 8, box) for i, box in enumerate(boxes.tolist())])
    mixed = mix_by(noise(8, SIZE, SIZE), faces, torch.Generator().manual_seed(1))[1]
    assert (mixed.boxes[:, 2:] > mixed.boxes[:, :2]).all()
    assert torch.isfinite(mixed.landmarks).all()
    assert ((mixed.weights >= 0) & (mixed.weights <= 1)).all()
    assert (mixed.weights[mixed.role == FACE] >= 0.3).all()


def test_plan_is_sound_and_mixes_at_most_once():
    mix = plan_mix(2000, 480, 640, torch.Generator().manual_seed(0), cutmix_prob=0.5, mixup_alpha=0.2)
    assert torch.equal(mix.partner.sort().values, torch.arange(2000))
    assert (mix.partner != torch.arange(2000)).all()
    left, top, right, bottom = mix.rectangle.unbind(1)
    cut = right > left
    assert 0.45 < cut.float().mean() < 0.55
    assert (mix.weight[cut] == 1).all()
    assert torch.equal(mix.rectangle, mix.rectangle.round())
    assert (mix.rectangle >= 0).all() and (right <= 640).all() and (bottom <= 480).all()
    share = ((right - left) * (bottom - top) / (640 * 480))[cut]
    assert share.min() > CUT_AREA[0] - 0.01 and share.max() < CUT_AREA[1] + 0.01
    assert share.min() < 0.12 and share.max() > 0.48
    # Beta(0.2, 0.2) is U-shaped: 74 % of the draws leave one picture under 0.15.
    weight = mix.weight[~cut]
    assert 0.70 < ((weight < 0.15) | (weight > 0.85)).float().mean() < 0.78
    assert abs(weight.mean() - 0.5) < 0.05


def test_each_kind_can_be_turned_off():
    images, faces = noise(4, SIZE, SIZE), make_targets((0, [10, 10, 50, 50]), (3, [20, 20, 60, 60]))
    generator = torch.Generator().manual_seed(0)
    pixels, targets = mix_by(images, faces, generator, cutmix_prob=0, mixup_alpha=0)
    assert torch.equal(pixels, images.float()) and targets is faces

    only_cut = plan_mix(200, 64, 64, generator, cutmix_prob=0.5, mixup_alpha=0)
    assert (only_cut.weight == 1).all() and (only_cut.rectangle[:, 2] > 0).any()
    only_mixup = plan_mix(200, 64, 64, generator, cutmix_prob=0, mixup_alpha=0.2)
    assert (only_mixup.rectangle == 0).all() and (only_mixup.weight < 1).any()


def test_tiny_alpha_gives_no_nan():
    assert torch.isfinite(plan_mix(1000, 64, 64, torch.Generator(), 0, 1e-3).weight).all()


def test_same_generator_same_mix():
    images, faces = noise(4, SIZE, SIZE), make_targets((0, [10, 10, 50, 50]), (3, [20, 20, 60, 60]))
    a, b = (mix_by(images, faces, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a[0], b[0]) and all(torch.equal(x, y) for x, y in zip(a[1], b[1]))
    other = mix_by(images, faces, torch.Generator().manual_seed(4))
    assert not torch.equal(a[0], other[0])


@pytest.mark.parametrize("pictures", [1, 2, 5])
def test_batches_without_faces(pictures):
    pixels, targets = mix_by(noise(pictures, SIZE, SIZE), make_targets(), torch.Generator())
    assert pixels.shape == (pictures, 3, SIZE, SIZE)
    assert targets.boxes.shape == (0, 4) and targets.landmarks.shape == (0, 5, 2) and targets.role.dtype == torch.int8


def test_single_picture_is_not_mixed_with_itself():
    images, faces = noise(1, SIZE, SIZE), make_targets((0, [10, 10, 50, 50]))
    pixels, targets = mix_by(images, faces, torch.Generator())
    assert torch.equal(pixels, images.float()) and targets is faces


def test_types_are_kept():
    faces = make_targets((0, [10, 10, 50, 50]), (1, [20, 20, 60, 60]))
    mixed = mix_by(noise(2, SIZE, SIZE), faces, torch.Generator())[1]
    assert [field.dtype for field in mixed] == [field.dtype for field in faces]
    assert all(len(field) == 4 for field in mixed)


def test_mixing_depends_on_no_value_on_the_device():
    """Meta tensors have shapes but no values: whatever reads one, or shapes a result by one, fails."""
    images = noise(8, SIZE, SIZE).to("meta")
    faces = make_targets((0, [10, 10, 50, 50]), (3, [20, 20, 60, 60])).to("meta")
    pixels, targets = mix_by(images, faces, torch.Generator())
    assert pixels.shape == images.shape and targets.boxes.shape == (4, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mixing_reads_nothing_back_from_the_device():
    images = noise(8, SIZE, SIZE).cuda()
    faces = make_targets((0, [10, 10, 50, 50]), (3, [20, 20, 60, 60])).to("cuda")
    expected = mix_by(images.cpu(), faces.to("cpu"), torch.Generator().manual_seed(0))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pixels, targets = mix_by(images, faces, torch.Generator().manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(pixels.cpu(), expected[0], atol=1e-3, rtol=0)
    assert all(torch.equal(x.cpu(), y) for x, y in zip(targets, expected[1]))
