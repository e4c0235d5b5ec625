"""The two detectors: reference numbers, counts, sizes, weights files, gradients, ONNX."""

import warnings

import numpy as np
import pytest
import torch
from torchvision.ops import deform_conv2d

from data.config import MEAN_BGR
from layers.anchors import STRIDES, make_anchors
from layers.dropblock import set_dropblock
from layers.outputs import FaceOutputs
from models import MODELS, build_model, load_backbone, load_model
from models.__main__ import main as print_ledger
from models.blocks import FACE_PRIOR, StridedDepthwiseConv, shuffle_channels
from models.featherface_v1 import BiFPN, DeformableConv, deformable_conv, fuse, pool_same
from models.ledger import BLOCKS, measure, total
from tests.paths import SHARED, needs_shared
from utils.errors import UserError

TEACHER = SHARED / "weights" / "FeatherNetB_se.pth"
IMAGENET = SHARED / "weights" / "mobilenetV1X0.25_pretrain.tar"
REFERENCE = SHARED / "reference" / "v1_outputs.npz"

BOTH = pytest.mark.parametrize("name", ["v1", "v2"])
SIZES = pytest.mark.parametrize("height, width", [(96, 160), (33, 47), (7, 5), (1, 1), (8, 200)])


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def seeded(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(name)


def run(model: torch.nn.Module, images: torch.Tensor) -> FaceOutputs:
    """The one piece of code that runs either detector."""
    with torch.no_grad():
        return model.eval()(images)


# Anchors


def test_anchors_of_a_picture_of_one_cell_per_level():
    sides = [(4, 16), (4, 32), (8, 64), (8, 128), (16, 256), (16, 512)]
    expected = [[center, center, side, side] for center, side in sides]
    assert make_anchors(8, 8).tolist() == expected


def test_anchors_run_row_by_row_over_rounded_up_cells():
    anchors = make_anchors(17, 33)
    assert anchors.dtype == torch.float32
    assert anchors.shape == (2 * (3 * 5 + 2 * 3 + 1 * 2), 4)
    assert anchors[:12:2, :2].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [36, 4], [4, 12]]
    assert anchors[:2, 2].tolist() == [16, 32]
    assert len(make_anchors(640, 640)) == 16800


# The teacher as published


@needs_shared
@pytest.mark.parametrize("picture", ["photo", "noise"])
def test_published_teacher_gives_the_reference_outputs(picture):
    reference = np.load(REFERENCE)
    outputs = run(load_model(TEACHER), torch.from_numpy(reference[f"{picture}_input"]))
    assert np.abs(outputs.boxes.numpy() - reference[f"{picture}_loc"]).max() < 1e-4
    assert np.abs(outputs.logits.softmax(-1).numpy() - reference[f"{picture}_conf"]).max() < 1e-4
    assert np.abs(outputs.landmarks.numpy() - reference[f"{picture}_landm"]).max() < 1e-4


@needs_shared
def test_reference_input_is_the_picture_minus_our_means():
    reference = np.load(REFERENCE)
    expected = (reference["photo_bgr"].astype(np.float32) - MEAN_BGR).transpose(2, 0, 1)[None]
    assert np.abs(reference["photo_input"] - expected).max() < 1e-4


def test_fifth_levels_third_weight_counts_in_the_sum_only():
    maps = torch.full((1, 1, 1, 1), 4.0), torch.full((1, 1, 1, 1), 2.0)
    assert fuse(torch.tensor([1.0, 1.0, 2.0]), *maps).item() == pytest.approx(6 / 4.0001)
    assert fuse(torch.tensor([1.0, 1.0, -2.0]), *maps).item() == pytest.approx(6 / 2.0001)
    assert BiFPN(8).p5_out_weights.shape == (3,)


def pool_same_by_hand(x: np.ndarray) -> np.ndarray:
    """TensorFlow's rule: ceil(side / 2) windows of 3, zeros around, the odd cell of padding behind."""
    cells = [-(-side // 2) for side in x.shape]
    before = [max((cell - 1) * 2 + 3 - side, 0) // 2 for cell, side in zip(cells, x.shape)]
    padded = np.pad(x, [(amount, 3) for amount in before])
    return np.array(
        [[padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(cells[1])] for i in range(cells[0])]
    )


@pytest.mark.parametrize("height", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_pooling_pads_with_zeros_as_tensorflow_does(height, width):
    # Negative values, so that a window that touches the padding shows as 0.
    x = -np.random.default_rng(0).uniform(1, 2, (height, width)).astype(np.float32)
    pooled = pool_same(torch.from_numpy(x)[None, None])[0, 0].numpy()
    assert np.array_equal(pooled, pool_same_by_hand(x))


def test_untrained_deformable_convolution_is_a_plain_one():
    conv = next(module for module in seeded("v1").modules() if isinstance(module, DeformableConv))
    x = torch.randn(1, conv.weight.shape[1], 9, 7)
    assert torch.allclose(conv(x), torch.nn.functional.conv2d(x, conv.weight, padding=1), atol=1e-4)


def test_shuffle_puts_even_channels_first():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


# Counts


def test_parameter_counts():
    assert count_parameters(build_model("v1")) == 592_371
    student = count_parameters(build_model("v2"))
    assert 254_000 <= student <= 256_156
    assert count_parameters(build_model("v2").backbone) == 213_072


@BOTH
def test_ledger_counts_every_parameter_once(name):
    model = build_model(name).eval()
    costs = measure(model, 64, 64)
    assert tuple(costs) == BLOCKS
    assert total(costs).parameters == count_parameters(model)


def test_ledger_multiply_adds_by_hand():
    costs = measure(build_model("v1").eval(), 64, 96)
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert costs["heads"].multiply_adds == cells * 64 * 32
    assert costs["mix"].multiply_adds == cells * (64 * 32 + 32 * 9 + 32 * 64)
    taps = 9 * (64 + 64 + 16 + 16 + 16)
    weights = 9 * (64 * 32 + 64 * 16 + 3 * 16 * 16)
    assert costs["context"].multiply_adds == cells * (taps * 27 + weights + 5 * taps)


def test_ledger_is_printed_for_both_models(capsys):
    print_ledger()
    printed = capsys.readouterr().out
    assert "592,371" in printed
    assert f"{count_parameters(build_model('v2')):,}" in printed
    assert all(block.replace("_", " ") in printed for block in BLOCKS)


# One piece of code for both


@BOTH
@SIZES
def test_outputs_fit_the_anchors_at_any_size(name, height, width):
    outputs = run(seeded(name), torch.randn(2, 3, height, width))
    anchors = len(make_anchors(height, width))
    assert outputs.boxes.shape == (2, anchors, 4)
    assert outputs.logits.shape == (2, anchors, 2)
    assert outputs.landmarks.shape == (2, anchors, 10)
    cells = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    assert [tuple(x.shape) for x in outputs.features] == [(2, MODELS[name].neck_channels, *cell) for cell in cells]
    assert all(torch.isfinite(x).all() for x in (*outputs[:3], *outputs.features))


@BOTH
def test_each_anchor_reads_its_own_cell(name):
    """Only the outputs of one cell's two anchors change when the last map changes in that cell."""
    heads = seeded(name).heads
    levels = [torch.randn(1, MODELS[name].neck_channels, side, side + 1) for side in (4, 2, 1)]
    before = torch.cat(heads(levels), dim=2)
    levels[1][:, :, 1, 2] += 1
    changed = (torch.cat(heads(levels), dim=2) != before).any(2)[0].nonzero().flatten().tolist()
    anchors = make_anchors(4 * 8, 5 * 8)
    assert len(before[0]) == 2 * (4 * 5 + 2 * 3 + 1 * 2)
    first = 2 * (4 * 5) + 2 * (1 * 3 + 2)
    assert changed == [first, first + 1]
    assert anchors[first].tolist() == [40, 24, 64, 64]


@BOTH
def test_pictures_of_a_batch_do_not_touch_each_other(name):
    model = seeded(name)
    images = torch.randn(2, 3, 64, 96)
    together, alone = run(model, images), run(model, images[1:])
    assert torch.allclose(together.logits[1:], alone.logits, atol=1e-5)


@BOTH
def test_untrained_model_starts_with_rare_faces_and_boxes_on_anchors(name):
    outputs = seeded(name)(50 * torch.randn(2, 3, 128, 128))
    assert outputs.logits.softmax(-1)[..., 1].mean().item() == pytest.approx(FACE_PRIOR, rel=0.1)
    assert outputs.boxes.abs().max() < 1


@BOTH
def test_gradients_reach_every_parameter(name):
    model = seeded(name)
    if name == "v1":
        # The offsets start at zero, where bilinear sampling has a kink; a trained one is off it.
        for module in model.modules():
            if isinstance(module, DeformableConv):
                torch.nn.init.normal_(module.offsets.weight, std=0.05)
    outputs = model(50 * torch.randn(2, 3, 128, 128))
    sum(x.sin().sum() for x in outputs[:3]).backward()
    # A bias in front of a BatchNorm is cancelled by it, as in the published teacher's neck.
    dead = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_dropblock_spares_the_features_and_the_finest_level():
    model = seeded("v2").train()
    images = torch.randn(2, 3, 128, 128)
    plain = model(images)
    set_dropblock(model, 0.5, block_size=3)
    dropped = model(images)
    finest = 2 * 16 * 16
    assert all(torch.equal(a, b) for a, b in zip(plain.features, dropped.features))
    assert torch.equal(plain.logits[:, :finest], dropped.logits[:, :finest])
    assert not torch.equal(plain.logits[:, finest:], dropped.logits[:, finest:])
    set_dropblock(model, 0.0, block_size=3)
    assert torch.equal(plain.logits, model(images).logits)


# Weights files


def published(wrap: str) -> dict:
    """The published teacher as other people's scripts save it."""
    state = torch.load(TEACHER, map_location="cpu", weights_only=True)
    prefixed = {f"module.{key}": value for key, value in state.items()}
    return {
        "flat": state,
        "prefixed": prefixed,
        "state_dict": {"epoch": 3, "state_dict": prefixed},
        "model_state_dict": {"model_state_dict": state},
    }[wrap]


@needs_shared
@pytest.mark.parametrize("wrap", ["flat", "prefixed", "state_dict", "model_state_dict"])
def test_published_teacher_loads_however_it_is_wrapped(tmp_path, wrap):
    torch.save(published(wrap), tmp_path / "teacher.pth")
    model = load_model(tmp_path / "teacher.pth")
    expected = load_model(TEACHER).state_dict()
    assert model.name == "v1" and not model.training
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


@needs_shared
@pytest.mark.parametrize("change", ["missing", "surplus", "misshapen"])
def test_published_teacher_loads_strictly(tmp_path, change):
    state = dict(published("flat"))
    key = "bifpn.1.conv4_up.bn.weight"
    if change == "missing":
        del state[key]
    elif change == "surplus":
        state["bifpn.1.conv6_up.bn.weight"] = state[key]
    else:
        state[key] = torch.ones(65)
    path = tmp_path / "teacher.pth"
    torch.save(state, path)
    with pytest.raises(UserError) as error:
        load_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@BOTH
@pytest.mark.parametrize("with_ema", [True, False, None])
def test_our_checkpoints_load_with_their_ema_weights_first(tmp_path, name, with_ema):
    model, ema = seeded(name), build_model(name)
    checkpoint = {"model_name": name, "model": model.state_dict(), "epoch": 7}
    if with_ema is not None:
        checkpoint["ema"] = ema.state_dict() if with_ema else None
    torch.save(checkpoint, tmp_path / "ours.pth")
    loaded = load_model(tmp_path / "ours.pth")
    expected = (ema if with_ema else model).state_dict()
    assert loaded.name == name and not loaded.training
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


def test_a_model_under_another_models_name_is_refused(tmp_path):
    torch.save({"model_name": "v1", "model": build_model("v2").state_dict()}, tmp_path / "ours.pth")
    with pytest.raises(UserError, match="does not fit"):
        load_model(tmp_path / "ours.pth")


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", [1, 2], {"weights": 1}, {}, {"state_dict": None}])
def test_files_that_are_no_checkpoint_get_one_line(tmp_path, content):
    path = tmp_path / "wrong.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    for load in (load_model, lambda path: load_backbone(build_model("v2"), path)):
        with pytest.raises(UserError) as error:
            load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_unknown_model_name():
    with pytest.raises(UserError, match="v3"):
        build_model("v3")
    assert list(MODELS) == ["v1", "v2"]


@needs_shared
@pytest.mark.parametrize("source", ["teacher", "ours", "imagenet"])
def test_student_takes_its_backbone_from(tmp_path, source):
    if source == "imagenet":
        path = IMAGENET
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        expected = [state["module.stage1.0.0.weight"], state["module.stage3.1.4.running_var"]]
    else:
        teacher = load_model(TEACHER)
        expected = [teacher.backbone.stage1[0].conv.weight, teacher.backbone.stage3[1].pointwise.norm.running_var]
        path = TEACHER
        if source == "ours":
            path = tmp_path / "v1.pth"
            torch.save({"model_name": "v1", "model": teacher.state_dict(), "ema": None}, path)
    student = build_model("v2")
    heads = [parameter.clone() for parameter in student.heads.parameters()]
    load_backbone(student, path)
    assert torch.equal(student.backbone.stage1[0].conv.weight, expected[0])
    assert torch.equal(student.backbone.stage3[1].pointwise.norm.running_var, expected[1])
    assert all(torch.equal(a, b) for a, b in zip(heads, student.heads.parameters()))


@needs_shared
def test_imagenet_file_is_no_detector():
    with pytest.raises(UserError, match="only an ImageNet backbone"):
        load_model(IMAGENET)


# ONNX


def test_student_needs_only_plain_onnx_at_opset_17(tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = seeded("v2").eval(), tmp_path / "student.onnx"
    images = torch.randn(1, 3, 96, 160)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is the one that writes opset 17
        torch.onnx.export(model, (images,), path, opset_version=17, input_names=["images"], dynamo=False)
    graph = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert {node.domain for node in graph.graph.node} == {""}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = run(model, images)
    for got, want in zip(session.run(None, {"images": images.numpy()}), expected[:3]):
        assert np.abs(got - want.numpy()).max() < 1e-4


def test_deformable_convolution_is_that_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 7, 9), (2, 18, 7, 9), (2, 9, 7, 9), (4, 5, 3, 3))  # taps far outside the map included
    x, offsets, mask, weight = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    ours = deformable_conv(x, 3 * offsets, mask, weight)
    theirs = deform_conv2d(x, 3 * offsets, weight, padding=1, mask=mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    inputs = (x, offsets, mask, weight)
    for gradient, reference in zip(
        torch.autograd.grad(ours.square().sum(), inputs), torch.autograd.grad(theirs.square().sum(), inputs)
    ):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("height, width", [(1, 1), (9, 8), (20, 20)])
def test_strided_depthwise_convolution_has_gradients_of_its_own_in_bfloat16(height, width):
    torch.manual_seed(0)
    conv = StridedDepthwiseConv(16)
    x = torch.randn(2, 16, height, width, requires_grad=True)
    expected = conv(x)
    direction = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, (x, conv.weight), direction)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    gradients = torch.autograd.grad(found, (x, conv.weight), direction.bfloat16())
    for gradient, reference in zip(gradients, expected_gradients):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, reference, rtol=0.02, atol=0.01 * float(reference.abs().max()))
