"""What the texts on the command line of detect.py name."""

import os

import pytest

from detection.sources import find_sources


@pytest.mark.parametrize(("texts", "names"), [
    (["."], ["[1].png", "a.png", "süd/a.png", "süd/tief/ä.png", "west/a.png"]),
    (["süd"], ["a.png", "tief/ä.png"]),
    (["süd", "west"], ["süd/a.png", "süd/tief/ä.png", "west/a.png"]),
    (["*/a.png"], ["süd/a.png", "west/a.png"]),
    (["s*/**/*.png"], ["süd/a.png", "süd/tief/ä.png"]),
    (["süd/**/ä*"], ["tief/ä.png"]),
    (["west/a.png", "./west/../west/a.png", "west"], ["a.png"]),
    (["west/a.png", "a.png"], ["west/a.png", "a.png"]),
    (["[1].png"], ["[1].png"]),
    (["[a].png"], ["a.png"]),
])
def test_texts_name_sources(monkeypatch, tmp_path, texts, names):
    for name in ("a.png", "[1].png", "süd/a.png", "süd/tief/ä.png", "süd/notes.txt", "west/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert [source.name.as_posix() for source in find_sources(texts)] == names


@pytest.mark.skipif(os.name == "nt", reason="Windows lets few make links")
def test_linked_folders_are_searched_once_whatever_they_lead_to(monkeypatch, tmp_path):
    for name in ("photos/sub/a.png", "photos/sub/.hidden/a.png", "elsewhere/deep/b.png", "elsewhere/.hidden/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    links = {"0": "sub", "sub/up": "..", "linked": "../elsewhere", "again": "../elsewhere/deep", "circle": "circle",
             "sub/c.png": "a.png", ".secret": "../elsewhere"}
    for link, target in links.items():
        os.symlink(target, f"photos/{link}")
    os.symlink("../photos", "elsewhere/back")
    names = ["again/b.png", "sub/a.png", "sub/c.png"]
    assert [source.name.as_posix() for source in find_sources(["photos"])] == names
    os.unlink("photos/again")
    names[0] = "linked/deep/b.png"
    assert [source.name.as_posix() for source in find_sources(["photos"])] == sorted(names)
