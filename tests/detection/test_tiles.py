"""Pictures cut into tiles: no face is lost, none is found twice."""

import math

import pytest

from detection.tiles import cut_extreme, cut_squares, spans, whole


@pytest.mark.parametrize(("length", "size", "overlap"), [
    (1, 1, 0), (64, 64, 16), (65, 64, 16), (112, 64, 16), (113, 64, 16), (1000, 64, 16), (12_000, 1280, 200),
    (4000, 1280, 2), (12_000, 7500, 3000), (100_003, 640, 160),
])
def test_what_fits_into_the_overlap_lies_whole_in_a_tile_that_answers_for_it(length, size, overlap):
    tiles = spans(length, size, overlap)
    assert {tile.end - tile.start for tile in tiles} == {min(length, size)}
    assert tiles[0].start == 0 and tiles[-1].end == length
    assert (tiles[0].core_start, tiles[-1].core_end) == (-math.inf, math.inf)
    for before, after in zip(tiles, tiles[1:]):
        assert before.end - after.start >= overlap
        assert after.core_start <= before.core_end  # no place is nobody's
    for side in {1, overlap // 2, overlap} - {0}:
        for start in range(0, length - side, max(1, length // 997)):
            middle = start + side / 2
            assert any(tile.start <= start and start + side <= tile.end and tile.core_start <= middle < tile.core_end
                       for tile in tiles)


@pytest.mark.parametrize(("height", "width", "count"), [
    (1, 1, 1), (1, 1280, 1), (1080, 1920, 1), (3000, 4000, 1), (1080, 2560, 1), (4000, 10_000, 1), (512, 1280, 1),
    (1, 1281, 2), (4000, 10_001, 2), (200, 12_000, 11), (12_000, 200, 11), (2, 4000, 4), (2400, 10_800, 3),
])
def test_only_extreme_shapes_are_cut(height, width, count):
    tiles = cut_extreme(height, width)
    assert len(tiles) == count
    for tile in tiles:
        sides = (tile.y.end - tile.y.start, tile.x.end - tile.x.start)
        assert max(sides) <= max(1280, 2.5 * min(height, width) + 1) and min(sides) == min(height, width)


def test_squares_come_with_the_whole_picture():
    assert cut_squares(640, 640, 640) == whole(640, 640)
    first, *squares = cut_squares(641, 100, 640)
    assert [first] == whole(641, 100) and len(squares) == 2
    assert len(cut_squares(3600, 5400, 640)) == 1 + 8 * 11
