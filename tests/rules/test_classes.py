"""Labels and predictions in the formats in which frameworks save them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rules.classes import NotClasses, NotFinite, labelled, predicted


def as_labels(value: Any) -> list[int]:
    return labelled("labels", np.asarray(value)).tolist()


def as_predictions(value: Any, samples: int, *, vectors: bool = True) -> list[int]:
    return predicted("predictions", np.asarray(value), samples, vectors=vectors).tolist()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i8", "u8"])
def test_whole_numbers_of_any_type_and_shape_are_classes(dtype: str) -> None:
    assert as_labels(np.array([[2], [0], [7]], dtype)) == [2, 0, 7]
    assert as_predictions(np.array([2, 0, 7], dtype), 3) == [2, 0, 7]


def test_a_saved_scalar_is_the_label_of_one_sample() -> None:
    assert labelled("labels", 3.0).tolist() == [3]
    assert predicted("predictions", 3.0, 1, vectors=True).tolist() == [3]


def test_booleans_and_negative_numbers_are_classes() -> None:
    assert as_labels([True, False]) == [1, 0]
    assert as_labels([-1, 1]) == [-1, 1]


def test_a_one_hot_row_is_the_class_at_its_one() -> None:
    assert as_labels([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) == [1, 2, 0]


@pytest.mark.parametrize("rows", [[[0, 1], [1, 1]], [[0, 0], [0, 1]], [[0, 2], [1, 0]]])
def test_rows_that_are_not_all_one_hot_are_labels_one_by_one(rows: list[list[int]]) -> None:
    assert as_labels(rows) == [label for row in rows for label in row]


def test_numbers_from_0_to_1_are_probabilities_of_class_1_with_a_cut_at_one_half() -> None:
    assert as_predictions([0.5, math.nextafter(0.5, 1), 0.0, 1.0], 4) == [0, 1, 0, 1]
    assert as_predictions([[0.2], [0.7]], 2, vectors=False) == [0, 1]


def test_the_largest_element_of_a_vector_is_its_class() -> None:
    assert as_predictions([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], 2) == [2, 0]
    assert as_predictions([-1.0, -9.0, -math.inf], 1) == [0]


def test_vectors_are_refused_by_default_and_the_error_says_how_to_allow_them() -> None:
    with pytest.raises(NotClasses, match="argmax=True") as error:
        as_predictions([[0.1, 0.9]], 1, vectors=False)
    assert error.value.reason == "unpaired"


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_predictions_that_differ_in_number_from_the_labels_are_refused(samples: int) -> None:
    with pytest.raises(NotClasses, match=r"one prediction for each label$"):
        as_predictions(np.ones((3, 4)), samples)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_has_its_own_error(bad: float) -> None:
    with pytest.raises(NotFinite, match=f"labels holds {bad:g}"):
        as_labels([0.0, bad])
    with pytest.raises(NotFinite, match=f"predictions holds {bad:g}"):
        as_predictions([0.0, bad], 2)


def test_only_nan_is_an_error_in_vectors() -> None:
    assert as_predictions([[math.inf, 0.0], [-math.inf, 0.0]], 2) == [0, 1]
    with pytest.raises(NotFinite, match="nan"):
        as_predictions([[math.nan, 0.0]], 1)


@pytest.mark.parametrize("values", [[0.5, 1.0], [2.0**60], [-(2.0**60)]])
def test_labels_that_are_not_whole_numbers_are_not_classes(values: list[float]) -> None:
    with pytest.raises(NotClasses, match="not whole numbers"):
        as_labels(values)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_whole_numbers_too_large_for_floats_are_not_classes(dtype: str) -> None:
    for extreme in {int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)} - {0}:
        with pytest.raises(NotClasses):
            as_labels(np.array([extreme], dtype))


@pytest.mark.parametrize("values", [[0.5, 1.5], [-0.1, 0.5]])
def test_predictions_that_are_neither_classes_nor_probabilities_are_refused(values: list[float]) -> None:
    with pytest.raises(NotClasses, match="neither classes nor probabilities"):
        as_predictions(values, 2)


@pytest.mark.parametrize("values", [["cat", "dog"], [1j, 2j]])
def test_a_value_that_is_not_a_number_is_not_a_class(values: list[Any]) -> None:
    with pytest.raises(NotClasses, match="no numbers"):
        as_labels(values)
    with pytest.raises(NotClasses, match="no numbers"):
        as_predictions(values, 2)


def test_an_empty_tensor_has_no_classes() -> None:
    assert as_labels([]) == []
    assert as_predictions([], 0) == []
