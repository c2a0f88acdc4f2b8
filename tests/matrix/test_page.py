"""The page of the matrix says what the tests hold the cells to, and no feature is without its test."""

from __future__ import annotations

from tests.matrix import test_matrix
from tests.matrix.cells import FEATURES
from tests.matrix.doors import DOORS
from tests.matrix.page import PAGE, counts, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.matrix.page"


def test_every_feature_has_a_test_over_every_protocol_and_dialect() -> None:
    tests = {name.removeprefix("test_") for name in vars(test_matrix) if name.startswith("test_")}
    proved = {feature for feature in FEATURES for test in tests if test == feature or test.startswith(f"{feature}_")}
    assert proved == set(FEATURES) and len(FEATURES) == 9


def test_the_four_protocols_have_all_their_cells_and_responses_are_a_fifth() -> None:
    four = [door for door in DOORS if door != "responses"]
    assert counts(four) == (132, 48)
    assert counts(DOORS) == (171, 54)
