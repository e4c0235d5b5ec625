"""What several benchmarks are tried on."""

import numpy as np
import pytest

from data.picture_files import write_picture


@pytest.fixture
def labels(tmp_path):
    """Six pictures with a white face each, and one without any."""
    lines = []
    for place in range(6):
        picture = np.zeros((90, 120, 3), np.uint8)
        picture[30:60, 40:80] = 255
        write_picture(tmp_path / "images" / "e" / f"{place}.png", picture)
        lines.append(f"# e/{place}.png\n40 30 40 30\n")
    write_picture(tmp_path / "images" / "e" / "none.png", picture)
    (tmp_path / "label.txt").write_text("".join([*lines, "# e/none.png\n"]))
    return tmp_path / "label.txt"
