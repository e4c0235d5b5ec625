"""What the keypoints of a face are called, and the order that landmarks have here."""

import re

#: Words that say nothing of which point it is.
FILLERS = re.compile("corner|center|centre|tip|point|of|the|face|landmark")
SIDE, PART = "(left|right|l|r)", "(eye|mouth|lip)"


def landmark_places(names: list) -> list[int] | None:
    """Where the landmarks stand among keypoints: that of the eye called right, that called left, nose, the corner of
    the mouth called right, that called left. None where names are not understood, or not all five are there once.

    The person's right side is the left one in the picture, which is first here: COCO's names mean the person's.
    """
    known = [meaning(str(name)) for name in names]
    wanted = ["right eye", "left eye", "nose", "right mouth", "left mouth"]
    return [known.index(name) for name in wanted] if all(known.count(name) == 1 for name in wanted) else None


def meaning(name: str) -> str | None:
    """left eye, right eye, nose, left mouth or right mouth, of names such as leftEye, mouth_left_corner, NoseTip."""
    letters = FILLERS.sub("", re.sub("[^a-z]", "", name.lower()))
    if letters == "nose":
        return letters
    if not (found := re.fullmatch(f"{SIDE}{PART}|{PART}{SIDE}", letters)):
        return None
    side, part = (found[1], found[2]) if found[1] else (found[4], found[3])
    return f"{'left' if side[0] == 'l' else 'right'} {'eye' if part == 'eye' else 'mouth'}"
