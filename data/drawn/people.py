"""Draws the people of the demo set, and the Brush they and the things of scenery.py are drawn with.

Everything is painted on uint8 [H, W, 3] BGR pictures in place. The Brush draws larger and averages down, so that a face
of ten pixels keeps two eyes and a mouth.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SKULL_TOP = -1.3  # of a head whose hairline is at -1 and whose chin is at 1
EAR = 85.0  # azimuth in degrees

SKIN = ((205, 222, 248), (178, 203, 240), (150, 180, 224), (118, 152, 205), (92, 124, 178), (66, 92, 140),
        (50, 66, 100))
HAIR = ((20, 20, 24), (28, 34, 48), (40, 62, 98), (70, 120, 176), (110, 178, 218), (40, 74, 150), (150, 150, 155))
NECK = np.array([(-0.38, 0.4), (-0.4, 1.2), (0, 1.6), (0.4, 1.2), (0.38, 0.4)])
BODY = np.array([(-0.4, 1.2), (-1.1, 1.4), (-1.5, 1.8), (-1.75, 4.6), (-1.1, 4.8), (-1, 9), (1, 9), (1.1, 4.8),
                 (1.75, 4.6), (1.5, 1.8), (1.1, 1.4), (0.4, 1.2)])


def shade(colour, factor: float) -> tuple:
    """A colour made darker (factor < 1) or lighter."""
    return tuple(float(min(255.0, channel * factor)) for channel in colour)


def any_colour(rng) -> tuple:
    """Any BGR colour, the greyish ones more often."""
    grey, colour = rng.uniform(30, 230), rng.uniform(10, 245, 3)
    return tuple(grey + (colour - grey) * rng.uniform(0, 0.8) ** 1.5)


def skin_colour(rng) -> tuple:
    """Between two neighbouring tones of the palette."""
    tone = rng.uniform(0, len(SKIN) - 1.001)
    dark, light = np.array(SKIN[int(tone) + 1]), np.array(SKIN[int(tone)])
    return tuple(light + (dark - light) * (tone % 1) + rng.normal(0, 4, 3))


class Brush:
    """Draws one thing in its own frame: the origin at `centre` (x, y in pixels), `unit` pixels long, turned by `roll`.

    Shapes go to a larger premultiplied BGRA layer, paste averages it down. The layer covers what of `reach`
    (left, top, right, bottom in units along the picture's axes) lies in the picture.
    """

    def __init__(self, picture: np.ndarray, centre, unit: float, roll: float = 0.0, reach=(-2.2, -2.2, 2.2, 2.2)):
        self.picture, self.centre, self.unit = picture, np.asarray(centre, float), unit
        self.axes = unit * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        self.zoom = 4 if unit < 24 else 2
        limits = np.array(picture.shape[1::-1])
        self.low = np.clip(np.floor(self.centre + unit * np.array(reach[:2])), 0, limits).astype(int)
        self.high = np.clip(np.ceil(self.centre + unit * np.array(reach[2:])), 0, limits).astype(int)
        width, height = (self.high - self.low) * self.zoom
        self.layer = np.zeros((height, width, 4), np.uint8)

    def fixed_point(self, points) -> np.ndarray:
        """Own frame -> layer pixels in OpenCV's fixed point with 4 bits, where pixel centres are whole numbers."""
        inside = (np.asarray(points, float) @ self.axes + self.centre - self.low) * self.zoom - 0.5
        return np.round(inside * 16).astype(np.int32)

    def polygon(self, points, colour) -> None:
        if self.layer.size:
            cv2.fillPoly(self.layer, [self.fixed_point(points)], (*colour, 255.0), cv2.LINE_AA, 4)

    def line(self, points, colour, width: float) -> None:
        if self.layer.size:
            pixels = max(1, round(width * self.unit * self.zoom))
            cv2.polylines(self.layer, [self.fixed_point(points)], False, (*colour, 255.0), pixels, cv2.LINE_AA, 4)

    def ellipse(self, centre, radii, colour) -> None:
        angles = np.linspace(0, 2 * np.pi, 25)
        self.polygon(np.asarray(centre) + np.stack([np.cos(angles), np.sin(angles)], 1) * radii, colour)

    def paste(self, blur: float = 0.0, light=(0.0, 0.0), rim: float = 0.0, brightness: float = 1.0) -> None:
        """Lay the drawing over the picture.

        blur is a sigma in pixels; light brightens along a direction, per unit of the picture's axes; rim darkens
        what lies away from the centre, as on a ball.
        """
        if not self.layer.size:
            return
        (left, top), (right, bottom) = self.low, self.high
        layer = cv2.resize(self.layer, (right - left, bottom - top), interpolation=cv2.INTER_AREA).astype(np.float32)
        if blur > 0.3:
            layer = cv2.GaussianBlur(layer, (0, 0), blur)
        across = (np.arange(left, right, dtype=np.float32) + 0.5 - self.centre[0]) / self.unit
        down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - self.centre[1]) / self.unit)[:, None]
        roundness = np.minimum(across**2 * 1.4 + down**2 * 0.6, 1.2)
        factor = brightness * np.clip(1 + light[0] * across + light[1] * down - rim * roundness, 0.4, 1.4)
        cover = layer[..., 3:]
        lit = np.minimum(layer[..., :3] * factor[..., None], cover)
        window = self.picture[top:bottom, left:right]
        window[:] = np.round(window * (1 - cover / 255) + lit)


@dataclass
class Person:
    """Where somebody stands and how the head is turned; the looks are drawn by draw_person.

    The face frame has its origin in the middle of the face; a unit is half the way from hairline to chin.
    """

    centre: tuple[float, float]  # pixels
    unit: float  # pixels
    roll: float  # radians, clockwise in the picture
    yaw: float  # degrees, positive to the right of the picture
    nod: float  # units the features move down
    half_width: float  # units
    jaw: float  # 0.3 square .. 0.6 pointed
    cover: str  # a key of COVERS or ""
    blur: float  # sigma in pixels
    light: np.ndarray  # as Brush.paste takes it
    brightness: float

    def half_width_at(self, y):
        """Half the head's width at height y: a round skull above, a jaw below."""
        y = np.asarray(y, float)
        above = np.sqrt(np.clip(1 - (np.minimum(y, 0) / SKULL_TOP) ** 2.4, 0, 1))
        return self.half_width * above * np.clip(1 - np.maximum(y, 0) ** 2, 0, 1) ** self.jaw

    def on_head(self, azimuth, y, depth: float = 1.0) -> np.ndarray:
        """[..., 2] points on the turned head; azimuth in degrees, 0 straight ahead. The chin follows the turn."""
        y = np.asarray(y, float)
        turned = np.radians(np.clip(np.asarray(azimuth, float) + self.yaw, -90, 90))
        x = depth * self.half_width_at(y) * np.sin(turned) + 0.2 * np.sin(np.radians(self.yaw)) * np.maximum(y, 0) ** 2
        return np.stack(np.broadcast_arrays(x, y), -1)

    def contour(self, top: float, left: float = -180.0, right: float = 180.0) -> np.ndarray:
        """Closed outline from height `top` to the chin between two azimuths; by default the whole silhouette."""
        y = top + (1 - top) * (1 - np.cos(np.linspace(0, np.pi, 18))) / 2
        return np.concatenate([self.on_head(right, y), self.on_head(left, y)[::-1]])

    def to_picture(self, points) -> np.ndarray:
        turn = np.array([[np.cos(self.roll), np.sin(self.roll)], [-np.sin(self.roll), np.cos(self.roll)]])
        return np.asarray(points) @ turn * self.unit + self.centre

    def face_outline(self) -> np.ndarray:
        """[n, 2] pixels: hairline to chin, ear to ear as far as seen. Its bounds are the labelled box."""
        return self.to_picture(self.contour(-1.0, -EAR, EAR))

    def silhouette(self) -> list[np.ndarray]:
        """What hides those behind: head with hair, and body, as polygons in pixels."""
        return [self.to_picture(self.contour(SKULL_TOP) * 1.12), BODY * self.unit + self.centre]

    def features(self) -> np.ndarray:
        """[5, 2] in the face frame: left and right eye, nose, left and right mouth corner."""
        eyes, mouth = -0.2 + self.nod, 0.55 + self.nod
        return np.stack([self.on_head(-27, eyes), self.on_head(27, eyes),
                         self.on_head(0, 0.2 + 1.4 * self.nod, depth=1.2),
                         self.on_head(-26, mouth), self.on_head(26, mouth)])

    def landmarks(self) -> np.ndarray:
        return self.to_picture(self.features())


def imagine_person(height: int, width: int, face_height: float, light, rng) -> Person:
    """Somebody with a face of that many pixels, the larger (nearer) the lower in the picture."""
    unit = face_height / 2
    depth = np.clip(face_height / (0.35 * height), 0, 1)
    y = np.clip(rng.normal(0.25 + 0.3 * depth, 0.2), 0.02, 0.95) * height
    far_turned = rng.random() < 0.15
    covered = rng.random() < 0.15
    blur = rng.choice([0.0, 0.05, 0.1], p=[0.85, 0.11, 0.04]) * rng.uniform(0.6, 1.2)
    return Person(
        centre=(rng.uniform(-0.02, 1.02) * width, max(y, 0.6 * unit)),
        unit=unit,
        roll=np.radians(np.clip(rng.normal(0, 28 if far_turned else 9), -60, 60)),
        yaw=np.clip(rng.normal(0, 38 if far_turned else 16), -55, 55),
        nod=np.clip(rng.normal(0, 0.05), -0.12, 0.12),
        half_width=rng.uniform(0.7, 0.86),
        jaw=rng.uniform(0.33, 0.55),
        cover=rng.choice(list(COVERS)) if covered else "",
        blur=min(blur * face_height, 5.0),
        light=light + rng.normal(0, 0.08, 2),
        brightness=rng.uniform(0.75, 1.1),
    )


def draw_person(picture: np.ndarray, person: Person, rng) -> None:
    """Body, head, face, hair and what covers it."""
    skin, hair = skin_colour(rng), HAIR[rng.integers(len(HAIR))]
    style = rng.choice(["short", "short", "fringe", "long", "long", "wide", "bald", "hat", "scarf"])
    cloth = any_colour(rng)
    finish = {"blur": person.blur, "light": person.light, "brightness": person.brightness}

    body = Brush(picture, person.centre, person.unit, reach=(-1.9, -1, 1.9, 9))
    if style == "long":
        long_hair = [(-0.6, -1.2), (-0.95, -0.8), (-1.05, 0.6), (-0.8, 1.5), (0.8, 1.5), (1.05, 0.6), (0.95, -0.8),
                     (0.6, -1.2)]
        body.polygon(np.array(long_hair) * (person.half_width * 1.15, 1), shade(hair, 0.8))
    body.polygon(BODY, cloth)
    body.polygon(BODY[3:9], any_colour(rng))
    body.polygon(NECK, shade(skin, 0.72))
    body.paste(**finish)

    head = Brush(picture, person.centre, person.unit, person.roll)
    if style == "wide":
        head.polygon(person.contour(SKULL_TOP)[:36] * (1.35, 1.2) - (0, 0.15), shade(hair, 0.9))
    for side in (-1, 1):
        if side * person.yaw < 15 and style != "scarf":
            head.ellipse(person.on_head(side * EAR, -0.05), (0.13, 0.24), shade(skin, 0.85))
    head.polygon(person.contour(SKULL_TOP), skin)
    draw_features(head, person, skin, hair, rng)
    draw_hair(head, person, style, hair, cloth, rng)
    if person.cover:
        COVERS[person.cover][0](head, person, skin, hair, rng)
    head.paste(rim=0.3, **finish)


def draw_features(head: Brush, person: Person, skin, hair, rng) -> None:
    """Eyes, brows, nose, mouth, and at times a beard."""
    left_eye, right_eye, nose, left_mouth, right_mouth = person.features()
    middle_of_mouth = (left_mouth + right_mouth) / 2
    lips = shade((0.55 * skin[0], 0.5 * skin[1], 0.85 * skin[2]), rng.uniform(0.75, 1.0))
    if rng.random() < 0.18:
        head.polygon([person.on_head(-70, 0.35), person.on_head(-30, 0.4), person.on_head(30, 0.4),
                      person.on_head(70, 0.35), *person.contour(0.35)[6:30]], shade(hair, 1.1))
    open_eyes = rng.uniform(0.05, 0.1) if rng.random() < 0.9 else 0.02
    for side, eye in ((-1, left_eye), (1, right_eye)):
        narrow = max(0.35, np.cos(np.radians(27 * side + person.yaw)))
        head.ellipse(eye - (0, 0.02), (0.24 * narrow, 0.17), shade(skin, 0.78))
        head.ellipse(eye, (0.16 * narrow, open_eyes), (225, 228, 230))
        head.ellipse(eye + (0.03 * person.yaw / 50, 0), (0.085 * narrow, min(0.085, open_eyes * 1.2)), (30, 34, 44))
        lid = [(-0.17 * narrow, 0.01), (0, -open_eyes - 0.02), (0.17 * narrow, 0.01)]
        head.line(eye + lid, shade(skin, 0.35), 0.04)
        brow = [(-0.21 * narrow, -0.2 - 0.03 * side), (0, -0.27), (0.21 * narrow, -0.2 + 0.03 * side)]
        head.line(eye + brow, shade(hair, 0.9) if hair[1] < 140 else shade(skin, 0.6), 0.075)
    bridge = (left_eye + right_eye) / 2
    shadow_side = 1 if person.light[0] < 0 else -1
    nostril = nose + (0.19 * shadow_side, 0.03)
    head.polygon([bridge + (0.03 * shadow_side, -0.05), nostril, nose + (0, 0.08)], shade(skin, 0.82))
    head.ellipse(nose - (0, 0.03), (0.1, 0.09), shade(skin, 1.08))
    for side in (-1, 1):
        head.ellipse(nose + (side * 0.09, 0.07), (0.05, 0.03), shade(skin, 0.42))
    opening = max(0.0, rng.normal(0.02, 0.07))
    curve = rng.normal(0.05, 0.04)
    upper, lower = middle_of_mouth + (0, curve - 0.1 - opening / 2), middle_of_mouth + (0, curve + 0.1 + opening)
    head.polygon([left_mouth, (left_mouth + upper) / 2 - (0, 0.02), upper, (right_mouth + upper) / 2 - (0, 0.02),
                  right_mouth, (right_mouth + lower) / 2 + (0, 0.03), lower,
                  (left_mouth + lower) / 2 + (0, 0.03)], lips)
    inner = middle_of_mouth + (0, curve)
    if opening > 0.06:
        head.polygon([left_mouth * 0.8 + inner * 0.2, inner - (0, opening / 2), right_mouth * 0.8 + inner * 0.2,
                      inner + (0, opening)], (215, 220, 225) if rng.random() < 0.7 else (40, 30, 60))
    else:
        head.line([left_mouth, inner, right_mouth], shade(lips, 0.5), 0.035)
    if rng.random() < 0.12:
        for eye in (left_eye, right_eye):
            angles = np.linspace(0, 2 * np.pi, 20)
            head.line(eye + np.stack([np.cos(angles) * 0.25, np.sin(angles) * 0.2], 1), (40, 40, 45), 0.04)
        head.line([left_eye + (0.25, 0), right_eye - (0.25, 0)], (40, 40, 45), 0.04)


def draw_hair(head: Brush, person: Person, style: str, hair, cloth, rng) -> None:
    """Hair, hat or headscarf above the hairline; behind the near ear the head is hair down to the neck."""
    if style == "bald":
        return
    outer = person.contour(SKULL_TOP) * (1.1, 1.06)
    right_side, left_side = outer[:18], outer[18:]
    lowest = {"scarf": 1.1, "hat": -0.55}.get(style, 0.25)
    line = {"fringe": -0.55, "hat": -0.82}.get(style, -0.98) + rng.uniform(-0.04, 0.04)
    azimuths = np.array([EAR - 3, 70, 48, 20, 0, -20, -48, -70, 3 - EAR])
    heights = np.array([0.2, -0.35, line + 0.14, line, line - 0.02, line, line + 0.14, -0.35, 0.2])
    if style == "scarf":
        azimuths = np.array([20, 60, 76, 70, 40, 0, -40, -70, -76, -60, -20])
        heights = np.array([0.97, 0.6, 0, -0.5, -0.85, -0.92, -0.85, -0.5, 0, 0.6, 0.97])
    if style == "hat":
        heights = np.minimum(heights, -0.5)
    border = person.on_head(azimuths, heights)
    around = np.concatenate([left_side[left_side[:, 1] < lowest], right_side[right_side[:, 1] < lowest], border])
    colour = cloth if style in ("hat", "scarf") else hair
    head.polygon(around, colour)
    if style == "hat":
        brim = person.on_head(np.array([80, 40, 0, -40, -80]), line + np.array([0.2, 0.08, 0.05, 0.08, 0.2]), depth=1.2)
        head.line(brim, shade(colour, 0.6), 0.16)
    elif style != "scarf":
        for azimuth in rng.uniform(-60, 60, 4):
            strand = person.on_head(azimuth * np.array([0.6, 0.9, 1.0]), np.array([-1.28, -1.15, line - 0.02]))
            head.line(strand, shade(hair, rng.choice([0.7, 1.25])), 0.05)


def cover_with_mask(head: Brush, person: Person, skin, hair, rng) -> None:
    """A cloth mask from the bridge of the nose to the chin, with its strings."""
    colour = ((235, 235, 235), (215, 190, 150), (60, 60, 65), any_colour(rng))[rng.integers(4)]
    nose = person.features()[2]
    for side in (-1, 1):
        head.line([person.on_head(55 * side, 0.2), person.on_head(EAR * side, -0.15)], shade(colour, 0.8), 0.04)
    head.polygon([person.on_head(-58, 0.15), nose - (0, 0.18), person.on_head(58, 0.15),
                  *(person.contour(0.3, -62, 62) * (1, 1.01))], colour)
    for y in (0.45, 0.65):
        head.line(person.on_head(np.array([-50, 0, 50]), np.array([y - 0.05, y, y - 0.05])), shade(colour, 0.82), 0.035)


def cover_with_sunglasses(head: Brush, person: Person, skin, hair, rng) -> None:
    """Two dark lenses, the bridge and the temples."""
    left_eye, right_eye = person.features()[:2]
    colour = shade((40, 34, 34), rng.uniform(0.5, 2.0))
    for eye, side in ((left_eye, -1), (right_eye, 1)):
        narrow = max(0.4, np.cos(np.radians(27 * side + person.yaw)))
        head.ellipse(eye + (0, 0.03), (0.31 * narrow, 0.23), colour)
        head.ellipse(eye - (0.08 * narrow, 0.04), (0.08 * narrow, 0.05), shade(colour, 2.2))
        head.line([eye, person.on_head(EAR * side, -0.22)], colour, 0.06)
    head.line([left_eye, right_eye], colour, 0.07)


def cover_with_hand(head: Brush, person: Person, skin, hair, rng) -> None:
    """A hand of the same skin before the mouth or one cheek."""
    palm = np.array([rng.uniform(-0.35, 0.35), rng.uniform(0.65, 0.95)])
    lean = rng.uniform(-0.35, 0.35)
    for finger in range(4):
        start = palm + (-0.27 + 0.18 * finger, -0.1)
        head.line([start, start + (lean, -0.55 + 0.07 * abs(finger - 1.5))], shade(skin, 0.9), 0.17)
        head.line([start + (0.09, 0), start + (0.09 + lean, -0.5)], shade(skin, 0.6), 0.025)
    head.ellipse(palm + (0, 0.15), (0.37, 0.35), shade(skin, 0.92))
    head.line([palm + (0, 0.3), palm + (-2 * lean, 1.4)], shade(skin, 0.85), 0.42)


def cover_with_hair(head: Brush, person: Person, skin, hair, rng) -> None:
    """Hair that falls over one half of the face."""
    side = rng.choice([-1, 1])
    head.polygon([*person.on_head(side * np.array([0, 18, 30, 40, 55]), np.array([-1.2, -0.6, -0.1, 0.4, 0.8])),
                  *person.on_head(side * np.array([100, 100, 100]), np.array([0.6, -0.2, -1.0]))], hair)


def cover_with_cup(head: Brush, person: Person, skin, hair, rng) -> None:
    """A cup or a microphone before the mouth."""
    _, _, _, left_mouth, right_mouth = person.features()
    middle, colour = (left_mouth + right_mouth) / 2, any_colour(rng)
    head.polygon(middle + [(-0.27, -0.12), (0.27, -0.12), (0.22, 0.75), (-0.22, 0.75)], colour)
    head.ellipse(middle - (0, 0.12), (0.27, 0.09), shade(colour, 0.6))


#: What may cover a face: the painter, and the share of the face it hides.
COVERS = {"mask": (cover_with_mask, 0.45), "sunglasses": (cover_with_sunglasses, 0.2), "hand": (cover_with_hand, 0.35),
          "hair": (cover_with_hair, 0.3), "cup": (cover_with_cup, 0.2)}
