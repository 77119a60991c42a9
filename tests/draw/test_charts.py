import re

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.draw.charts import curves, mistakes

ROWS = [
    {
        "epoch": e,
        "train_loss": 2.0 / e**2,
        "test_loss": 2.0 / e,
        "train_accuracy": 1 - 0.5 / e,
        "test_accuracy": 0.9 - 0.01 * abs(e - 7),
        "seconds": 1.0,
    }
    for e in range(1, 11)
]
IMAGES = np.random.RandomState(0).rand(60, 1, 8, 8).astype(np.float32)
TRUTH = np.arange(60) % 10


def texts(path):
    """What is written in an SVG: Matplotlib puts it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL)


def curve_texts(tmp_path, rows, **options):
    return texts(curves(rows, tmp_path / "curves.svg", **options))


def mistake_texts(tmp_path, wrong, confidence=None, images=IMAGES, **options):
    predicted = TRUTH.copy()
    predicted[wrong] = (TRUTH[wrong] + 1) % 10
    confidence = np.linspace(0.5, 0.9, 60) if confidence is None else confidence
    path = tmp_path / "mistakes.svg"
    return texts(mistakes(images, TRUTH, predicted, confidence, path, **options))


# Curves


def test_lines_are_named_and_the_best_epoch_is_the_best_of_the_test_set(tmp_path):
    said = curve_texts(tmp_path, ROWS, title="A run")
    assert {"A run", "Loss", "Error in %", "best test: 90.00 % right, epoch 7"} <= set(said)
    assert said.count("train") == said.count("test") == 2


def test_of_equal_epochs_the_first_is_best(tmp_path):
    rows = [row | {"test_accuracy": 0.8} for row in ROWS]
    assert "best test: 80.00 % right, epoch 1" in curve_texts(tmp_path, rows)


def test_a_wide_span_is_logarithmic_and_a_small_one_begins_at_zero(tmp_path):
    log = curve_texts(tmp_path, [{"epoch": e, "train_loss": 10.0**-e} for e in range(4)])
    linear = curve_texts(tmp_path, [{"epoch": e, "train_loss": 4.0 + e} for e in range(4)])
    assert {"0.01", "0.1", "1"} <= set(log)
    assert "0.01" not in linear and "0" in linear


def test_perfect_accuracy_does_not_vanish(tmp_path):
    rows = [row | {"train_accuracy": 1.0} for row in ROWS]
    assert curve_texts(tmp_path, rows).count("train") == 2


@pytest.mark.parametrize("gone", [None, float("nan"), float("inf")])
def test_what_is_missing_is_left_out(tmp_path, gone):
    rows = [row | {"test_accuracy": gone, "train_accuracy": gone} for row in ROWS]
    said = curve_texts(tmp_path, rows)
    assert "Error in %" not in said and "best test: 0.2, epoch 10" in said
    rows = [ROWS[0] | {"train_loss": gone}, *ROWS[1:]]
    assert "Error in %" in curve_texts(tmp_path, rows)


def test_without_a_test_set_the_training_set_is_judged(tmp_path):
    rows = [{k: v for k, v in row.items() if not k.startswith("test")} for row in ROWS]
    said = curve_texts(tmp_path, rows)
    assert "best train: 95.00 % right, epoch 10" in said and "test" not in said


def test_one_epoch(tmp_path):
    assert curve_texts(tmp_path, ROWS[:1]).count("1") == 2  # the only mark of each axis


@pytest.mark.parametrize("rows", [[], [{"epoch": 1}], [{"epoch": 1, "train_loss": float("nan")}]])
def test_no_epochs(tmp_path, rows):
    with pytest.raises(ti.ArgumentError, match="train for one"):
        curves(rows, tmp_path / "curves.svg")
    assert not [*tmp_path.iterdir()]


# Mistakes


def test_the_surest_mistakes_come_first(tmp_path):
    confidence = np.full(60, 0.99)
    confidence[[3, 14, 25]] = 0.6, 0.8, 0.7
    said = mistake_texts(tmp_path, [3, 14, 25], confidence, title="A run")
    assert "A run: 3 mistakes in 60 images (5 %)" in said
    assert [s for s in said if " → " in s and "," not in s] == ["4 → 5", "5 → 6", "3 → 4"]
    assert [s for s in said if s.endswith(" %")] == ["80 %", "70 %", "60 %"]


def test_at_most_36_are_shown_and_all_are_counted(tmp_path):
    said = mistake_texts(tmp_path, np.arange(50))
    assert "50 mistakes in 60 images (83.3 %)" in said
    assert len([s for s in said if " → " in s and "," not in s]) == 36


def test_one_mistake(tmp_path):
    assert "1 mistake in 60 images (1.67 %)" in mistake_texts(tmp_path, [7])


def test_without_mistakes_the_closest_calls(tmp_path):
    said = mistake_texts(tmp_path, [])
    assert "No mistakes in 60 images" in said
    assert [s for s in said if s in "0123456789"][:3] == ["0", "1", "2"]
    assert not [s for s in said if " → " in s]


def test_classes_have_their_names(tmp_path):
    classes = [f"kind {i}" for i in range(10)]
    said = " ".join(mistake_texts(tmp_path, [3], classes=classes))
    assert "kind 3" in said and "→ kind 4" in said


@pytest.mark.parametrize("shape", [(60, 8, 8), (60, 1, 8, 8), (60, 3, 8, 8)])
def test_grey_and_coloured_images_of_any_range(tmp_path, shape):
    images = np.random.RandomState(1).randn(*shape) * 100
    assert "1 mistake in 60 images (1.67 %)" in mistake_texts(tmp_path, [7], images=images)
    flat = np.zeros(shape)
    assert "1 mistake in 60 images (1.67 %)" in mistake_texts(tmp_path, [7], images=flat)


def test_what_does_not_fit_together(tmp_path):
    path, sure = tmp_path / "mistakes.png", np.ones(60)
    with pytest.raises(ti.ShapeError, match=r"truth \(59,\)"):
        mistakes(IMAGES, TRUTH[1:], TRUTH, sure, path)
    with pytest.raises(ti.ShapeError, match=r"\(n, 3, h, w\)"):
        mistakes(np.zeros((60, 8, 8, 3)), TRUTH, TRUTH, sure, path)
    with pytest.raises(ti.ArgumentError, match="no images"):
        mistakes(IMAGES[:0], TRUTH[:0], TRUTH[:0], sure[:0], path)


# Files


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_numbers_give_the_same_bytes(tmp_path, kind):
    a, b = (curves(ROWS, tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
    assert a == b and len(a) > 1000


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ti.ArgumentError, match=r"\.svg, \.pdf, \.png"):
        curves(ROWS, tmp_path / "curves.txt")


def test_nothing_global_changes(tmp_path):
    from matplotlib import rcParams

    before = dict(rcParams)
    curves(ROWS, tmp_path / "curves.png")
    assert dict(rcParams) == before
