"""The reference figures, nearly; and that numbers are as coarse as they are said to be."""

import sys

import numpy as np
import pytest
from rich.console import Console

from tinyinfer import cli
from tinyinfer.ops.winograd import convolve, filters
from tinyinfer.reproduce import winograd
from tinyinfer.reproduce.winograd import (
    DIRECT,
    F2,
    F4,
    F6,
    METHODS,
    PADDING,
    REFERENCE,
    convolved,
    decibels,
    errors,
    half,
    int8,
    int8_by_tap,
    relative,
    shown,
)

A = lambda *shape: np.random.RandomState(0).standard_normal(shape)


@pytest.fixture(scope="module")
def runs():
    return [errors(seed) for seed in range(2)]


@pytest.mark.parametrize("kind", REFERENCE)
def test_reference_figures(runs, kind):
    for method, reference in REFERENCE[kind].items():
        for run in runs:
            if kind == "fp32":
                assert 0.6 < run[kind, method] / float(reference) < 1.5
            else:
                assert abs(decibels(run[kind, method]) - float(reference)) < 4


def test_what_the_table_is_to_show(runs):
    for run in runs:
        for kind in REFERENCE:
            usual, _, better = (run[kind, m] for m in F4)
            assert run[kind, F2] < better < 0.8 * usual < run[kind, F6[0]]
        for method in METHODS[1:]:
            assert run["int8, by tap", method] < run["int8", method]
        assert run["fp32", F2] < 1.5 * run["fp32", DIRECT] and run["int8", F4[0]] > 1


def test_another_seed_is_another_run(runs):
    again, other = errors(0), runs[1]
    assert np.allclose([*again.values()], [*runs[0].values()], rtol=0.05)
    assert {*again.values()}.isdisjoint(other.values())


# Kinds of numbers


def test_int8_has_255_levels():
    z = A(4, 4, 50, 50)
    whole = int8(z) / (np.abs(z).max() / 127)
    assert np.abs(whole - whole.round()).max() < 1e-12
    assert np.abs(whole).max() == 127 and len({*whole.round().ravel()}) > 200
    assert np.abs(int8(z) - z).max() <= 0.5001 * np.abs(z).max() / 127


def test_each_tap_has_a_scale():
    z = A(2, 2, 30, 30) * np.array([1, 10, 100, 1000]).reshape(2, 2, 1, 1)
    for i, j in np.ndindex(2, 2):
        assert np.array_equal(int8_by_tap(z)[i, j], int8(z[i, j]))
    assert relative(int8_by_tap(z), z) < relative(int8(z), z) < 0.02
    assert relative(int8(z)[0, 0], z[0, 0]) > 0.9


def test_half_is_half():
    assert half(np.float32([1.0004, 2e-8, -7.5])).tolist() == [1, 0, -7.5]


@pytest.mark.parametrize("method", [F2, F4[2]], ids=str)
def test_integers_give_the_same(method):
    """Products and sums of int8 numbers, in 32 bits, scaled at the end."""
    x, w, m, points = A(1, 8, 9, 9), A(4, 8, 3, 3), method.m, method.points
    scales = []

    def integers(z):
        scales.append(np.abs(z).max() / 127)
        return np.round(z / scales[-1]).astype("int8").astype("int32")

    u = integers(filters(w, m, points))
    y = convolve(
        x, u, m, 3, points, PADDING, integers,
        lambda products: products.astype("float64") * scales[0] * scales[1],
    )  # fmt: skip
    assert np.allclose(y, convolved(x, w, method, winograd.NUMBERS["int8"]), rtol=1e-9)


# What is printed


def test_the_table_fits_on_a_terminal(runs, capsys):
    Console(width=80).print(shown(runs))
    out = capsys.readouterr().out
    assert "…" not in out and out.count("dB") >= 2 * (len(METHODS) - 1)
    for m, factor in (2, "2.25"), (4, "4"), (6, "5.0625"):
        assert f"F({m}×{m})" in out and [factor, factor, "same"] in [
            line.split()[1:] for line in out.splitlines()
        ]


@pytest.mark.parametrize(
    "ours, reference, unit, difference",
    [
        (1.349e-6, "1.3e-6", "%", "same"),
        (1.351e-6, "1.3e-6", "%", "+4%"),
        (2e-6, "2.5e-6", "%", "-20%"),
        (11.6, "12", "dB", "same"),
        (-2.1, "0.1", "dB", "-2.2 dB"),
        (1.0, "", "%", ""),
    ],
)
def test_how_ours_differs(ours, reference, unit, difference):
    assert winograd.apart(ours, reference, unit) == difference


def test_points_are_written_in_short():
    assert [str(m) for m in METHODS] == [
        "direct",
        "F(2×2)  0 ±1",
        "F(4×4)  0 ±1 ±2",
        "F(4×4)  0 ±1 ±½",
        "F(4×4)  0 ±1 ½ −2",
        "F(6×6)  0 ±1 ±2 ±3",
        "F(6×6)  0 ±1 ±2 ±½",
    ]


def test_a_bar_for_each_error(runs, tmp_path):
    picture = winograd.draw(winograd.means(runs), tmp_path / "errors.svg").read_text()
    for kind, colour in winograd.BARS.items():
        bars = sum(kind == k for k, _ in runs[0])
        assert picture.count(f"stroke: {colour.line}") == bars + 1 > 6  # and in the legend


def test_the_command(tmp_path, monkeypatch, capsys):
    command = ["tinyinfer", "reproduce", "winograd", "--out", str(tmp_path), "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", command)
    assert cli.main() == 0
    assert "5.0625" in capsys.readouterr().out
    assert (tmp_path / "errors.svg").exists()
    monkeypatch.setattr(sys, "argv", [*command, "--models", "models"])
    assert cli.main() == 2
    assert "the table winograd takes no --models" in capsys.readouterr().err
