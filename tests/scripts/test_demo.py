"""demo.py."""

from pathlib import Path

import demo
from training.flags import parse_args
from training.run_folder import checkpoint_path


def test_the_demo_distils_the_teacher_it_trains():
    teacher = parse_args(arguments=[*demo.TRAINING, *demo.TEACHER])
    student = parse_args(arguments=[*demo.TRAINING, *demo.STUDENT])
    assert teacher.model == "v1" and teacher.teacher_model == "none"
    assert student.model == "v2" and student.alpha == 0.7 and student.feature_weight == 0.1
    assert Path(student.teacher_model) == checkpoint_path(teacher, "final")
    assert checkpoint_path(student, "final") == demo.RESULTS / "v2" / "FeatherFaceV2_final.pth"
