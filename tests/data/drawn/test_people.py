"""Drawn people are what their labels say."""

import numpy as np
import pytest

from data.drawn.people import draw_person, imagine_person


@pytest.mark.parametrize("number", range(8))
def test_eyes_are_drawn_where_the_landmarks_say(number):
    rng = np.random.default_rng(number)
    person = imagine_person(400, 400, 160.0, np.zeros(2), rng)
    person.centre, person.cover, person.blur = (200.0, 180.0), "", 0.0
    person.roll = np.radians((-50, -20, 20, 50)[number % 4])
    picture = np.full((400, 400, 3), 128, np.uint8)
    draw_person(picture, person, rng)

    def brightness(point):
        x, y = np.round(point).astype(int)
        return picture[y - 2 : y + 3, x - 2 : x + 3].mean()

    for eye, cheek in ((0, person.on_head(-30, 0.12)), (1, person.on_head(30, 0.12))):
        assert brightness(person.landmarks()[eye]) < 0.75 * brightness(person.to_picture(cheek))
