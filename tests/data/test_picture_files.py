"""Reading picture files."""

from io import BytesIO

import numpy as np
from PIL import Image

from data.picture_files import decode_picture, picture_size
from tests.helpers import picture_of_noise


def test_the_orientation_of_the_camera_is_ignored_at_every_scale():
    """Boxes are in the stored pixels."""
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(picture_of_noise()).save(file, "JPEG", exif=exif)
    data = np.frombuffer(file.getvalue(), np.uint8)
    assert picture_size(BytesIO(data)) == (150, 200)
    for reduction in (1, 2, 4, 8):
        assert decode_picture(data, reduction=reduction).shape[:2] == (-(-150 // reduction), -(-200 // reduction))
    assert decode_picture(data, upright=True).shape == (200, 150, 3)
