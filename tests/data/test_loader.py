import threading
from threading import Event

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.data import DataLoader, Dataset, ahead, digits
from tinyinfer.data.transforms import Compose, Pad, RandomRotation, RandomShift
from tinyinfer.errors import ArgumentError, DTypeError, ShapeError
from tinyinfer.kernels import threads

N = 50
TOY = Dataset(
    np.arange(N, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 3, 3), np.uint8),
    np.arange(N) % 10,
    100,
    tuple("0123456789"),
    "toy",
)
SHAKE = Compose(Pad(1), RandomShift(1), RandomRotation(20))


def bits(batches):
    return [(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in batches]


def numbers(batches):
    return [round(100 * float(x)) for images, _ in batches for x in images.numpy()[:, 0, 0, 0]]


def test_batches_are_tensors():
    x, y = next(iter(DataLoader(TOY, 8)))
    assert type(x) is ti.Tensor and x.shape == (8, 1, 3, 3) and x.dtype == np.float32
    assert type(y) is ti.Tensor and y.shape == (8,) and y.dtype == np.int64
    np.testing.assert_array_equal(x.numpy(), TOY.images[:8] / np.float32(100))
    np.testing.assert_array_equal(y.numpy(), TOY.labels[:8])


def test_an_epoch_has_every_image_once():
    loader = DataLoader(TOY, 8)
    assert [len(y) for _, y in loader] == [8] * 6 + [2] and len(loader) == 7
    assert numbers(DataLoader(TOY, 8)) == list(range(N))
    shuffled = numbers(DataLoader(TOY, 8, shuffle=True))
    assert shuffled != list(range(N)) and sorted(shuffled) == list(range(N))


def test_labels_travel_with_their_images():
    for x, y in DataLoader(TOY, 8, shuffle=True):
        np.testing.assert_array_equal(np.round(x.numpy()[:, 0, 0, 0] * 100) % 10, y.numpy())


def test_the_last_batch_may_be_dropped():
    loader = DataLoader(TOY, 8, drop_last=True)
    assert [len(y) for _, y in loader] == [8] * 6 and len(loader) == 6
    assert len(DataLoader(TOY, 10, drop_last=True)) == len(DataLoader(TOY, 10)) == 5


def test_epochs_differ_and_come_one_after_the_other():
    loader = DataLoader(TOY, 8, shuffle=True, transform=SHAKE)
    first, second = bits(loader), bits(loader)
    assert first != second
    again = DataLoader(TOY, 8, shuffle=True, transform=SHAKE)
    assert bits(again.epoch(1)) == second and bits(again.epoch(0)) == first
    assert again.next_epoch == 0
    again.next_epoch = 1
    assert bits(again) == second


@pytest.mark.parametrize("start", range(8))
def test_a_run_goes_on_exactly_where_it_broke_off(start):
    make = lambda: DataLoader(TOY, 8, shuffle=True, seed=7, transform=SHAKE)
    assert bits(make().epoch(3, start=start)) == bits(make().epoch(3))[start:]


def test_while_a_batch_is_in_use_the_next_is_made(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: threads.chosen + 1)
    made = [Event() for _ in range(3)]

    def batches():
        for event in made:
            event.set()
            yield event, threading.current_thread()

    for i, (event, thread) in enumerate(ahead(batches())):
        assert event is made[i] and thread is not threading.current_thread()
        assert all(later.wait(10) for later in made[i + 1 : i + 2])
        assert not any(later.is_set() for later in made[i + 2 :])
    assert i == 2


def test_where_no_core_is_left_for_it_no_thread_makes_batches(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: threads.chosen)
    makers = ahead(threading.current_thread() for _ in range(3))
    assert set(makers) == {threading.current_thread()}


def test_an_error_ahead_comes_with_its_batch():
    batches = ahead(1 / n for n in (2, 1, 0))
    assert [next(batches), next(batches)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_seeds_differ():
    one, two = (numbers(DataLoader(TOY, 8, shuffle=True, seed=s)) for s in (0, 1))
    assert one != two


def test_the_global_generator_plays_no_part():
    np.random.seed(1)
    before = np.random.get_state()[1].tobytes()
    loader = DataLoader(TOY, 8, shuffle=True, transform=SHAKE)
    assert bits(loader.epoch(0)) == bits(loader.epoch(0))
    assert np.random.get_state()[1].tobytes() == before


def test_no_two_places_share_their_random_numbers():
    """Seeds may be longer than 32 bits, and zeros at the end must count."""
    seen = {
        DataLoader(TOY, 8, seed=seed)._rng(*place).bytes(16)
        for seed in (0, 1, 2**32, 2**64)
        for place in ((0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert len(seen) == 4 * 6


def test_a_transform_sees_the_batch_and_gives_contiguous_images():
    found = []

    def turn(images, rng):
        found.append(images.shape)
        return images.transpose(0, 1, 3, 2)[..., ::-1]

    x, _ = next(iter(DataLoader(digits()[1], 16, transform=turn)))
    assert found == [(16, 1, 8, 8)]
    assert x.numpy().flags.c_contiguous
    expected = digits()[1].images[:16].transpose(0, 1, 3, 2)[..., ::-1] / np.float32(16)
    np.testing.assert_array_equal(x.numpy(), expected)


class Pairs:
    """No Dataset, but a length and pairs."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return np.full((1, 2, 2), i, np.float64), i


def test_anything_with_a_length_and_pairs_will_do():
    batches = list(DataLoader(Pairs(), 2))
    assert [y.tolist() for _, y in batches] == [[0, 1], [2, 3], [4]]
    x, y = batches[1]
    assert x.dtype == np.float32 and y.dtype == np.int64 and x.shape == (2, 1, 2, 2)
    np.testing.assert_array_equal(x.numpy()[:, 0, 0, 0], [2, 3])


# fmt: off
REFUSED = [
    ({"batch_size": 0},                        "batch_size: a whole number from 1 on, not 0"),
    ({"batch_size": 2.5},                      "batch_size"),
    ({"batch_size": True},                     "batch_size"),
    ({"seed": -1},                             "seed"),
    ({"seed": "a"},                            "seed"),
    ({"transform": 3},                         "transform 3"),
    ({"batch_size": 51, "drop_last": True},    "50 images make no batch of 51"),
]
# fmt: on


@pytest.mark.parametrize("options, message", REFUSED)
def test_options_it_cannot_have(options, message):
    with pytest.raises(ArgumentError, match=message):
        DataLoader(TOY, **options)


@pytest.mark.parametrize("place", [(-1,), (0, -1), (0.5,)])
def test_epochs_it_cannot_have(place):
    with pytest.raises(ArgumentError, match="whole number from 0 on"):
        DataLoader(TOY).epoch(*place)


def test_a_transform_that_loses_images_or_their_dtype():
    with pytest.raises(ShapeError, match=r"made float32\[7, 1, 3, 3\] of 8 images"):
        next(iter(DataLoader(TOY, 8, transform=lambda x, rng: x[1:])))
    with pytest.raises(DTypeError, match=r"made float64\[8, 1, 3, 3\]"):
        next(iter(DataLoader(TOY, 8, transform=lambda x, rng: x.astype(float))))


@pytest.mark.parametrize(
    "items",
    [
        [(np.zeros((1, 2, 2)), 0), (np.zeros((1, 2, 3)), 1)],
        [(np.zeros((1, 2, 2)), 0.5)],
        [(np.zeros((1, 2, 2)), 0, "more")],
        [np.zeros((1, 2, 2))],
    ],
    ids=["two shapes", "half a label", "three parts", "no label"],
)
def test_items_that_are_no_pairs(items):
    with pytest.raises(ArgumentError, match="items are pairs"):
        next(iter(DataLoader(items)))
