"""COCO's JSON files."""

import json

import pytest

from data.formats.coco import read_coco
from data.widerface import LabelReport
from tests.data.formats.pictures import write_pictures, write_turned
from utils.errors import UserError


def write(folder, images, annotations, categories=({"id": 1, "name": "face"},)):
    path = folder / "annotations" / "train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def image(number, name, **more):
    return {"id": number, "file_name": name, "height": 60, "width": 80} | more


def face(number, picture, **more):
    return {"id": number, "image_id": picture, "category_id": 1, "bbox": [10, 12.5, 20, 30]} | more


def read(path, images=None):
    report = LabelReport()
    return read_coco(path, images, report), report


def test_boxes_keypoints_crowds_and_classes(tmp_path):
    write_pictures(tmp_path / "images", "a.jpg", "deep/ü 人.png", "empty.jpg")
    points = [v for x in (12, 18, 15, 13, 17) for v in (x, 20, 2)]
    path = write(tmp_path, [image(5, "a.jpg"), image("x", "deep/ü 人.png"), image(0, "empty.jpg")], [
        face(1, 5), face(2, "x", keypoints=points), face(3, "x", iscrowd=1), face(4, "x", category_id=9),
        face(5, 5, keypoints=[0] * 15), face(6, 5, keypoints=[1, 2, 2] * 17)])
    (a, deep, empty), report = read(path)
    assert [annotation.numbers for annotation in a.annotations] == [[10, 12.5, 20, 30, *[-1] * 15]] * 3
    assert deep.annotations[0].numbers == [10, 12.5, 20, 30, *[v for x in (12, 18, 15, 13, 17) for v in (x, 20, 0)]]
    assert [annotation.ignored for annotation in deep.annotations] == [False, True, False]
    assert [annotation.kind for annotation in deep.annotations] == ["face", "face", "9"]
    assert not empty.annotations and not report.problems and report.face_lines == 6


def test_what_cannot_be_used_is_told(tmp_path):
    write_pictures(tmp_path, "a.jpg", "train/b.jpg", "val/b.jpg", "small.jpg")
    path = write(tmp_path, [image(1, "a.jpg"), image(2, "b.jpg"), image(3, "gone.jpg"), image(4, "small.jpg", width=8),
                            "text", {"id": [1]}],
                 [face(1, 1), face(2, 77), face(3, 1, bbox=[1, 2, 3]), face(4, 1, bbox=[1, 2, "3", 4]), face(5, 3),
                  face(6, [1]), face(7, 1, bbox=[1, 2, 10**400, 4])])
    [picture], report = read(path)
    assert len(picture.annotations) == 1
    assert report.examples == {
        "picture of which there are several": ["train.json, image 2: b.jpg"],
        "missing picture": ["train.json, image 3: gone.jpg"],
        "picture of another size than its labels say": [f"train.json, image 4: {tmp_path / 'small.jpg'}"],
        "entry of 'images' that is no object with ids": ["train.json, number 4", "train.json, number 5"],
        "annotation of no image": ["train.json, annotation 2"],
        "annotation without a bbox of 4 numbers": [f"train.json, annotation {number}" for number in (3, 4, 7)],
        "entry of 'annotations' that is no object with ids": ["train.json, number 5"],
    }


@pytest.mark.parametrize("name", ["train/a.jpg", "train\\a.jpg", "./train/a.jpg", "/home/me/set/a.jpg",
                                  "C:\\set\\a.jpg", "../other/a.jpg"])
def test_names_of_other_machines(tmp_path, name):
    write_pictures(tmp_path, "train/a.jpg")
    assert len(read(write(tmp_path, [image(1, name)], []))[0]) == 1


def test_a_picture_of_another_folder_is_not_taken(tmp_path):
    write_pictures(tmp_path, "val/a.jpg")
    pictures, report = read(write(tmp_path, [image(1, "train/a.jpg")], []))
    assert not pictures and report.problems["missing picture"] == 1


@pytest.mark.parametrize(("declared", "turn"), [({"height": 80, "width": 60}, True), ({}, False),
                                                ({"height": None, "width": None}, True)])
def test_the_declared_size_tells_whether_exif_counts(tmp_path, declared, turn):
    write_turned(tmp_path / "a.jpg")
    [picture], _ = read(write(tmp_path, [image(1, "a.jpg", **declared)], [face(1, 1)]))
    assert picture.turn == turn and (picture.height, picture.width) == ((80, 60) if turn else (60, 80))


@pytest.mark.parametrize(("text", "words"), [
    ("{", r"faces.json:1 is no JSON"), ("[1, 2]", "no lists 'images' and 'annotations'"), ("{}", "no lists"),
    ("[" * 100_000, "is no JSON"), ('{"images": {}, "annotations": []}', "no lists"), ("", "is no JSON"),
    ('{"a": ' + "9" * 5000 + "}", "is no JSON"),
])
def test_what_is_not_coco_is_told(tmp_path, text, words):
    (tmp_path / "faces.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read(tmp_path / "faces.json")


def test_a_set_without_pictures_is_told(tmp_path):
    with pytest.raises(UserError, match="no pictures below .*--images"):
        read(write(tmp_path, [image(1, "a.jpg")], []))


def faces_called(tmp_path, names, *faces):
    """Numbers of the landmarks of faces {name: (x, y)} in a category of those names, and the report."""
    write_pictures(tmp_path, "a.jpg")
    entries = [face(number, 1, keypoints=[value for name in names for value in (*points[name], 2)])
               for number, points in enumerate(faces)]
    [picture], report = read(write(tmp_path, [image(1, "a.jpg")], entries,
                                   [{"id": 1, "name": "face", "keypoints": names}]))
    return [annotation.numbers[4:] for annotation in picture.annotations], report


#: x, y of the landmarks of label.txt in its order: eyes, nose, corners of the mouth, left as seen first.
SEEN = [(12, 20), (18, 20), (15, 24), (13, 28), (17, 28)]
AS_LABELS = [value for x, y in SEEN for value in (x, y, 0)]


@pytest.mark.parametrize("names", [
    ["right_eye", "left_eye", "nose", "right_mouth", "left_mouth"],  # COCO's: the person's sides
    ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"],  # sides as seen
    ["l-eye", "r-eye", "NoseTip", "mouth_left_corner", "mouth_right_corner"],
    ["rightEye", "leftEye", "nose", "mouthRight", "mouthLeft"],
    ["eye_right", "eye_left", "nose_tip", "right mouth corner", "left lip corner"],
])
def test_keypoints_are_ordered_by_their_names(tmp_path, names):
    points = dict(zip(names, SEEN))
    profile = points | {names[0]: (18, 20), names[1]: (12, 20)}  # a face turned far, against two
    for shuffled in (names, [names[place] for place in (2, 0, 1, 3, 4)], [*names[::-1], "chin"]):
        found, report = faces_called(tmp_path, shuffled, *[points | {"chin": (15, 30)}] * 2,
                                     profile | {"chin": (15, 30)})
        assert found[:2] == [AS_LABELS] * 2 and found[2][:6] == [18, 20, 0, 12, 20, 0] and not report.problems


@pytest.mark.parametrize("names", [
    ["nose", "left_eye", "right_eye", "left_ear", "right_ear"], ["a", "b", "c", "d", "e"],
    ["left_eye", "left_eye", "nose", "left_mouth", "right_mouth"], [None, 1, {}, [], "nose"],
])
def test_keypoints_of_other_names_are_no_landmarks(tmp_path, names):
    write_pictures(tmp_path, "a.jpg")
    points = [value for x, y in SEEN for value in (x, y, 2)]
    [picture], report = read(write(tmp_path, [image(1, "a.jpg")], [
        face(1, 1, keypoints=points), face(2, 1, keypoints=[0] * 15), face(3, 1)],
        [{"id": 1, "name": "face", "keypoints": names}]))
    assert [annotation.numbers[4:] for annotation in picture.annotations] == [[-1] * 15] * 3
    assert report.examples == {"face whose landmarks are left out, as the names of its keypoints are not understood":
                               ["train.json, annotation 1"]}
