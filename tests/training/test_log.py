"""TensorBoard gets what training_log.csv gets; damaged logs are in tests/edges/test_killed_training.py."""

import sys
from types import SimpleNamespace

import pytest

from training.checks import check_files
from training.flags import parse_args
from training.log import TrainingLog, read_log
from utils.errors import UserError

ROWS = [{"epoch": 3, "total": 2.5, "learning_rate": 1e-3}, {"epoch": 4, "total": 2.25, "ap_mean": 0.5}]


class Writer:
    """What torch.utils.tensorboard's SummaryWriter is asked for."""

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.scalars = folder, purge_step, []

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def flush(self):
        pass


def test_tensorboard_gets_the_names_and_numbers_of_the_log(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    log = TrainingLog(tmp_path / "training_log.csv", 2, tensorboard=True)
    for row in ROWS:
        log.append(row)
    assert (log.board.folder, log.board.purge_step) == (tmp_path, 3)
    assert log.board.scalars == [(name, value, row["epoch"]) for row in ROWS for name, value in row.items()]
    assert read_log(log.path) == ROWS


def test_tensorboard_reads_what_was_written(tmp_path):
    """A run that goes on from epoch 1 hides the epoch 2 of before."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, values in ((0, (4.0, 3.0)), (1, (2.0, 1.0))):
        log = TrainingLog(tmp_path / "training_log.csv", done, tensorboard=True)
        for epoch, value in enumerate(values, start=done + 1):
            log.append({"epoch": epoch, "total": value})
        log.board.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("total")] == [(1, 4.0), (2, 2.0), (3, 1.0)]


def test_without_tensorboard_the_run_stops_before_it_starts(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    (tmp_path / "label.txt").touch()
    options = parse_args(arguments=["--tensorboard", "--teacher_model", "none", "--save_folder", str(tmp_path / "run"),
                                    "--training_dataset", str(tmp_path / "label.txt")])
    with pytest.raises(UserError, match="--tensorboard: .*pip install tensorboard") as told:
        check_files(options)
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()
    options.tensorboard = False
    check_files(options)
    assert TrainingLog(tmp_path / "training_log.csv").board is None
