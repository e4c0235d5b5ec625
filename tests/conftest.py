"""What the tests of several rooms share and what takes its time: drawn pictures, checkpoints, an exported package."""

import functools

import pytest
import torch

from data.drawn.demo_set import write_demo_set
from data.picture_files import read_picture
from data.widerface import list_pictures
from tests.helpers import call, save_checkpoint, trained_network


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory):
    """(training pictures, validation pictures) -> a folder in WIDER FACE's layout, to be read only."""

    @functools.cache
    def draw(train: int, val: int):
        folder = tmp_path_factory.mktemp("drawn") / "set"
        write_demo_set(folder, train, val)
        return folder

    return draw


@pytest.fixture(scope="session")
def validation_set(drawn_set):
    """Eight drawn pictures with their ground truth."""
    return drawn_set(1, 8) / "val"


@pytest.fixture(scope="session")
def labels(drawn_set):
    """Training labels of a few drawn pictures, as tests.tiny_training trains on them."""
    return drawn_set(3, 1) / "train" / "label.txt"


@pytest.fixture(scope="session")
def student():
    """V2 as if trained, to be left as it is."""
    return trained_network("v2")


@pytest.fixture(scope="session")
def student_checkpoint(tmp_path_factory, student):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "Student.pth", student)


@pytest.fixture(scope="session")
def teacher_checkpoint(tmp_path_factory):
    """V1 as if trained."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "teacher.pth", trained_network("v1"))


@pytest.fixture(scope="session")
def package(tmp_path_factory, student_checkpoint, validation_set):
    """All that export.py writes of the student: weights, five graphs, the page."""
    import export  # with ONNX Runtime, which most tests do without

    folder = tmp_path_factory.mktemp("package") / "v2 pökäl"
    height, width = read_picture(validation_set / "images" / list_pictures(validation_set)[0]).shape[:2]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "TIMED_RUNS", 1)
        monkeypatch.setattr(export, "WARM_UP_RUNS", 0)
        call(export.main, "--trained_model", student_checkpoint, "--output_folder", folder, "--nms",
             "--confidence_threshold", "0.3", "--image_size", width, height, "--half", "--int8", "--dataset_folder",
             validation_set, "--calibration_pictures", "2")
    return folder


@pytest.fixture
def fresh_compiler():
    """torch.compile with nothing compiled yet, and as it was afterwards."""
    torch._dynamo.reset()
    yield
    torch.compiler.set_stance("default")
