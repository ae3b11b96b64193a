import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.report.labels import overlap, place
from wattshed.report.regions import MOST_POINTS, cell_edges, gather_points, rectangles_of

FRAME = (0.0, 0.0, 600.0, 400.0)
grids = st.integers(1, 8).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(0, 2), min_size=width, max_size=width), min_size=1, max_size=8
    )
)


@given(grids)
def test_rectangles_cover_each_cell_exactly_once(values):
    for wanted in range(3):
        covered = sorted(
            (row, column)
            for left, bottom, right, top in rectangles_of(values, wanted)
            for row in range(bottom, top)
            for column in range(left, right)
        )
        assert covered == [
            (row, column)
            for row, line in enumerate(values)
            for column, value in enumerate(line)
            if value == wanted
        ]


def test_equal_rows_share_one_rectangle():
    assert rectangles_of([[0, 0, 1]] * 5, 0) == [(0, 0, 2, 5)]


def test_edges_lie_half_way_as_the_axis_shows_it():
    assert cell_edges([8, 16], "log2") == pytest.approx([8 / 2**0.5, 8 * 2**0.5, 16 * 2**0.5])
    assert cell_edges([1, 2, 4], "linear") == [0.5, 1.5, 3.0, 5.0]
    assert cell_edges([3], "linear") == [2.5, 3.5]


def test_gathering_keeps_weight_and_centre():
    points = [(1.0 + k % 97, 1.0 + k % 89, 1.0 + k % 3) for k in range(MOST_POINTS + 500)]
    gathered = gather_points(points, ("log2", "linear"))
    assert len(gathered) < MOST_POINTS
    for axis in (0, 1):
        before = sum(p[axis] * p[2] for p in points)
        assert sum(p[axis] * p[2] for p in gathered) == pytest.approx(before)
    assert sum(p[2] for p in gathered) == pytest.approx(sum(p[2] for p in points))


def test_few_points_stay_as_they_are():
    assert gather_points([(1.0, 2.0, 3.0)], ("log2", "log2")) == [(1.0, 2.0, 3.0)]


def test_labels_of_a_crowd_do_not_cover_each_other():
    anchors = [(300.0, 200.0), (303.0, 201.0), (306.0, 199.0), (300.0, 204.0), (590.0, 395.0)]
    boxes = place(anchors, [(90.0, 12.0)] * 5, FRAME, [(295.0, 195.0, 311.0, 209.0)])
    for k, box in enumerate(boxes):
        assert overlap(box, FRAME) == pytest.approx(90 * 12)
        assert not any(overlap(box, other) for other in boxes[:k])
