"""What the texts on the command line of detect.py name."""

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
