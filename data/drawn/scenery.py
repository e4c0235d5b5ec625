"""Draws what is no face in the demo set: places, things that look a little like faces, and the light."""

import cv2
import numpy as np

from data.drawn.people import HAIR, Brush, any_colour, shade, skin_colour


def draw_place(height: int, width: int, rng) -> np.ndarray:
    """A background: a gradient with texture, and buildings, stripes, leaves, a wall or a crowd from behind."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    across = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    first, second, third = (np.float32(any_colour(rng)) for _ in range(3))
    ground = first + (second - first) * down + (third - first) * 0.5 * across
    for cells in (4, 16, 60):
        coarse = rng.normal(0, rng.uniform(0, 14), (cells, cells, 1)) + rng.normal(0, 3, (cells, cells, 3))
        ground += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    place = np.clip(ground, 0, 255).astype(np.uint8)
    painter = rng.choice([draw_buildings, draw_stripes, draw_leaves, draw_frames, draw_crowd_from_behind, None])
    if painter is not None:
        painter(place, rng)
    blur = rng.uniform(0, 2.5)
    return cv2.GaussianBlur(place, (0, 0), blur) if blur > 0.4 else place


def rectangle(picture: np.ndarray, left, top, right, bottom, colour) -> None:
    cv2.rectangle(picture, (int(left), int(top)), (int(right), int(bottom)), colour, -1)


def draw_buildings(place: np.ndarray, rng) -> None:
    """Walls with rows of windows."""
    height, width = place.shape[:2]
    left = 0
    while left < width:
        right, top = left + rng.uniform(50, 160), rng.uniform(0, 0.5) * height
        wall, window = any_colour(rng), any_colour(rng)
        rectangle(place, left, top, right, height, wall)
        step, pane = rng.uniform(14, 36), rng.uniform(0.4, 0.75)
        for x in np.arange(left + step / 3, right - step * pane, step):
            for y in np.arange(top + step / 3, height, step * 1.3):
                rectangle(place, x, y, x + step * pane, y + step * pane, shade(window, rng.uniform(0.7, 1.2)))
        left = right


def draw_stripes(place: np.ndarray, rng) -> None:
    """A fence, a curtain or a flag: bands across the picture."""
    height, width = place.shape[:2]
    first, second = any_colour(rng), any_colour(rng)
    step, slope = rng.uniform(8, 60), rng.uniform(-0.6, 0.6)
    for number, x in enumerate(np.arange(-height, width + height, step)):
        band = [(x, 0), (x + step * 0.6, 0), (x + step * 0.6 + slope * height, height), (x + slope * height, height)]
        cv2.fillPoly(place, [np.int32(band)], (first, second)[number % 2], cv2.LINE_AA)


def draw_leaves(place: np.ndarray, rng) -> None:
    """Round patches of one hue, as leaves, stones or a carpet."""
    height, width = place.shape[:2]
    colour, size = any_colour(rng), rng.uniform(4, 22)
    for _ in range(int(min(500, height * width / size**2 / 2))):
        axes = tuple(int(axis) for axis in 1 + size * rng.uniform(0.3, 1, 2))
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.ellipse(place, centre, axes, rng.uniform(0, 180), 0, 360, shade(colour, rng.uniform(0.5, 1.5)), -1)


def draw_frames(place: np.ndarray, rng) -> None:
    """An indoor wall: pictures, shelves, a door."""
    height, width = place.shape[:2]
    for _ in range(rng.integers(4, 12)):
        left, top = rng.uniform(0, width), rng.uniform(0, height * 0.8)
        right, bottom = left + rng.uniform(15, 120), top + rng.uniform(15, 120)
        rectangle(place, left, top, right, bottom, any_colour(rng))
        rectangle(place, left + 5, top + 5, right - 5, bottom - 5, any_colour(rng))


def draw_crowd_from_behind(place: np.ndarray, rng) -> None:
    """Rows of heads without faces."""
    height, width = place.shape[:2]
    for y in np.arange(height * rng.uniform(0.2, 0.6), height, rng.uniform(14, 30)):
        size = 4 + 14 * y / height
        for x in np.arange(rng.uniform(0, 20), width, size * rng.uniform(2.5, 4)):
            draw_back_of_head(place, (x + rng.normal(0, size / 3), y), size, rng)


def draw_back_of_head(picture, centre, size, rng) -> None:
    brush = Brush(picture, centre, size, rng.normal(0, 0.1), reach=(-1.9, -1.4, 1.9, 3))
    brush.polygon([(-0.3, 0.6), (-1.6, 1.6), (-1.8, 3), (1.8, 3), (1.6, 1.6), (0.3, 0.6)], any_colour(rng))
    brush.polygon([(-0.35, 0.4), (-0.35, 1.3), (0.35, 1.3), (0.35, 0.4)], shade(skin_colour(rng), 0.8))
    brush.ellipse((0, -0.15), (0.8, 1.1), HAIR[rng.integers(len(HAIR))])
    brush.paste(rim=0.25)


def draw_plate(picture, centre, size, rng) -> None:
    """Two rings and a few round things to eat."""
    colour = shade((230, 232, 235), rng.uniform(0.7, 1.1))
    brush = Brush(picture, centre, size, rng.uniform(0, 6))
    brush.ellipse((0, 0), (1, 0.9), colour)
    brush.ellipse((0, 0), (0.7, 0.63), shade(colour, 0.88))
    for _ in range(rng.integers(0, 4)):
        brush.ellipse(rng.uniform(-0.4, 0.4, 2), rng.uniform(0.1, 0.25, 2), any_colour(rng))
    brush.paste(rim=0.1)


def draw_clock(picture, centre, size, rng) -> None:
    brush = Brush(picture, centre, size, rng.normal(0, 0.1))
    brush.ellipse((0, 0), (1, 1), any_colour(rng))
    brush.ellipse((0, 0), (0.86, 0.86), shade((225, 230, 235), rng.uniform(0.7, 1.1)))
    for angle in np.arange(12) * np.pi / 6:
        direction = np.array([np.cos(angle), np.sin(angle)])
        brush.line([direction * 0.68, direction * 0.8], (30, 30, 30), 0.06)
    for length, angle in zip((0.45, 0.65), rng.uniform(0, 6.3, 2)):
        brush.line([(0, 0), (length * np.cos(angle), length * np.sin(angle))], (30, 30, 30), 0.08)
    brush.paste()


def draw_ball(picture, centre, size, rng) -> None:
    """A ball with dots, at times of the colour of skin."""
    colour = skin_colour(rng) if rng.random() < 0.5 else any_colour(rng)
    brush = Brush(picture, centre, size, rng.uniform(0, 6))
    brush.ellipse((0, 0), (1, 1), colour)
    for _ in range(rng.integers(1, 8)):
        brush.ellipse(rng.uniform(-0.65, 0.65, 2), rng.uniform(0.08, 0.2) * np.ones(2), shade(colour, 0.35))
    brush.paste(rim=0.4)


def draw_socket(picture, centre, size, rng) -> None:
    """A wall socket or a button: two to four holes in something pale."""
    colour = shade((225, 228, 230), rng.uniform(0.6, 1.1))
    brush = Brush(picture, centre, size, rng.normal(0, 0.15))
    brush.polygon([(-1, -1), (1, -1), (1, 1), (-1, 1)], colour)
    brush.ellipse((0, 0), (0.75, 0.75), shade(colour, 0.85))
    holes = [(-0.3, 0), (0.3, 0), (0, 0.4), (0, -0.4)][: rng.integers(2, 5)]
    for hole in holes:
        brush.ellipse(hole, (0.1, 0.12), (40, 40, 40))
    brush.paste()


def draw_bare_skin(picture, centre, size, rng) -> None:
    """An ellipse of skin without features: a knee, an arm, the back of a bald head."""
    brush = Brush(picture, centre, size, rng.uniform(0, 6))
    brush.ellipse((0, 0), (rng.uniform(0.5, 0.9), rng.uniform(0.8, 1.9)), skin_colour(rng))
    brush.paste(rim=0.3, light=rng.normal(0, 0.15, 2))


def draw_cat(picture, centre, size, rng) -> None:
    """A cat's head: pointed ears, bright eyes with slits, whiskers."""
    fur = any_colour(rng)
    brush = Brush(picture, centre, size, rng.normal(0, 0.25))
    for side in (-1, 1):
        brush.polygon([(side * 0.95, -1.3), (side * 0.25, -0.75), (side * 0.95, -0.2)], shade(fur, 0.8))
    brush.ellipse((0, 0), (1.05, 0.85), fur)
    for side in (-1, 1):
        brush.ellipse((side * 0.42, -0.1), (0.2, 0.17), (90, 210, 190))
        brush.ellipse((side * 0.42, -0.1), (0.05, 0.16), (10, 10, 10))
        brush.ellipse((side * 0.16, 0.45), (0.2, 0.15), shade(fur, 1.25))
        for y in (0.3, 0.42, 0.54):
            brush.line([(side * 0.25, y), (side * 1.2, y + rng.normal(0, 0.08))], shade(fur, 0.4), 0.02)
    brush.polygon([(-0.12, 0.22), (0.12, 0.22), (0, 0.36)], (90, 80, 160))
    brush.paste(rim=0.25)


def draw_sign(picture, centre, size, rng) -> None:
    """A board with writing."""
    ground = any_colour(rng)
    ink = (20, 20, 20) if sum(ground) > 380 else (240, 240, 240)
    (x, y), text = centre, "".join(rng.choice(list("ABCDEGHKMOPRSTU08:()oo"), rng.integers(2, 7)))
    rectangle(picture, x - size * 1.5, y - size * 0.6, x + size * 1.5, y + size * 0.6, ground)
    width, height = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1, 2)[0]
    scale = min(2.7 * size / width, size * 0.8 / height)
    corner = (int(x - width * scale / 2), int(y + height * scale / 2))
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, max(1, int(2 * scale)), cv2.LINE_AA)


THINGS = (draw_plate, draw_clock, draw_ball, draw_socket, draw_bare_skin, draw_cat, draw_sign, draw_back_of_head)


def draw_thing(picture: np.ndarray, size: float, rng) -> None:
    """One thing of `size` pixels from its middle to its edge, somewhere in the picture."""
    height, width = picture.shape[:2]
    THINGS[rng.integers(len(THINGS))](picture, rng.uniform((0, 0), (width, height)), size, rng)


def draw_light(picture: np.ndarray, rng) -> tuple[np.ndarray, bool]:
    """The picture in its light, with noise, and whether that light is extreme (dark or over-exposed)."""
    height, width = picture.shape[:2]
    kind = rng.choice(["plain", "slope", "dark", "bright", "grey"], p=[0.59, 0.22, 0.07, 0.07, 0.05])
    gain = {"dark": rng.uniform(0.35, 0.55), "bright": rng.uniform(1.4, 1.8)}.get(kind, rng.uniform(0.8, 1.15))
    light = np.full((height, width, 1), gain, np.float32)
    if kind == "slope":
        across, down = rng.uniform(-0.6, 0.6, 2)
        light += (across * np.linspace(-1, 1, width)[None, :] + down * np.linspace(-1, 1, height)[:, None])[..., None]
    lit = picture * (np.maximum(light, 0.15) * rng.normal(1, 0.06, 3)).astype(np.float32)
    if kind == "grey":
        lit[:] = lit.mean(axis=2, keepdims=True)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(lit + noise * rng.uniform(0, 9), 0, 255).astype(np.uint8), kind in ("dark", "bright")
