"""Label sets that cannot be right: told before a run, not after its epochs."""

from pathlib import Path

from data.widerface import CONVERTER, LabelReport
from utils.errors import UserError

#: Share of the pictures with a face under which labels must be missing.
LEAST_WITH_FACES = 0.02


def check_label_sets(reports: dict[Path, LabelReport]) -> None:
    """UserError, with the reason, where label sets that go together cannot be right."""
    for path, report in reports.items():
        if report.face_lines and not report.faces:
            told = str(report).partition("\n")[2].strip().replace("\n  ", "; ")
            raise UserError(f"none of the {report.face_lines:,} faces in {path} can be used ({told}): a face is a line "
                            "x y w h in pixels")
        if report.faces and report.largest <= 1:
            raise UserError(f"all {report.faces:,} boxes in {path} lie within 0 to 1: label.txt has them in pixels; "
                            f"{CONVERTER} takes YOLO's shares of the picture")
    pictures = sum(report.pictures for report in reports.values())
    with_faces = pictures - sum(report.pictures_without_faces for report in reports.values())
    if with_faces < LEAST_WITH_FACES * pictures:
        raise UserError(f"{with_faces:,} of {pictures:,} pictures in {', '.join(map(str, reports))} have a face: are "
                        "labels missing? Else leave most of the others out, there is next to nothing to learn")
