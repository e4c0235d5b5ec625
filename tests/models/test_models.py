"""Networks by name, and the weights files they are read from."""

import pytest
import torch

from models import MODELS, build_model, load_backbone, load_model
from tests.helpers import SHARED, needs_shared, untrained_network
from utils.errors import UserError

TEACHER = SHARED / "weights" / "FeatherNetB_se.pth"

IMAGENET = SHARED / "weights" / "mobilenetV1X0.25_pretrain.tar"


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


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("with_ema", [True, False, None])
def test_our_checkpoints_load_with_their_ema_weights_first(tmp_path, name, with_ema):
    model, ema = untrained_network(name), build_model(name)
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
