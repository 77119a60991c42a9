import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from tinyinfer.data import idx
from tinyinfer.errors import LoadError

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
PLAIN = struct.pack(">4I", 0x803, 2, 3, 4) + ARRAY.tobytes()


def read(tmp_path, content, magic=None):
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    return idx.read(path, magic)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4, 5)])
def test_what_was_written_is_read(tmp_path, dtype, shape):
    array = (np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    idx.write(tmp_path / "x.gz", array)
    found = idx.read(tmp_path / "x.gz")
    assert found.dtype == array.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_numbers_are_big_endian(tmp_path):
    content = bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0, 1, 1, 0])
    np.testing.assert_array_equal(read(tmp_path, content), np.array([1, 256], np.int16))


FORMS = {
    "plain": PLAIN,
    "gzipped": gzip.compress(PLAIN),
    "in parts": gzip.compress(PLAIN[:20]) + gzip.compress(PLAIN[20:]),
    "padded": gzip.compress(PLAIN) + bytes(9),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_files_may_be_gzipped(tmp_path, content):
    np.testing.assert_array_equal(read(tmp_path, content, idx.IMAGES), ARRAY)


def test_equal_arrays_give_equal_files(tmp_path):
    idx.write(tmp_path / "a.gz", ARRAY)
    idx.write(tmp_path / "b.gz", ARRAY.copy())
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


# fmt: off
DAMAGED = {
    "empty":            (b"",                               "ends after 0 of the 4 bytes of magic"),
    "magic":            (b"\x01" + PLAIN[1:],               "starts with 01000803, expected 00 00"),
    "type":             (flipped(PLAIN, 2),                 "starts with 00005d03, expected 00 00"),
    "axes":             (PLAIN[:10],                        "ends after 6 of the 12 bytes of axes"),
    "truncated":        (PLAIN[:-1],                        "ends after 23 of the 24 bytes of numbers"),
    "trailing":         (PLAIN + b"\0",                     "goes on after the 24 bytes"),
    "trailing, gzip":   (gzip.compress(PLAIN + b"\0"),      "goes on after the 24 bytes"),
    "truncated gzip":   (gzip.compress(PLAIN)[:-9],         "ended before the end-of-stream"),
    "gzip magic":       (b"\x1f\x8b",                      "ended before the end-of-stream"),
    "gzip header":      (flipped(gzip.compress(PLAIN), 2),  "compression method"),
    "gzip stream":      (flipped(gzip.compress(PLAIN), 10), "Error"),
    "gzip checksum":    (flipped(gzip.compress(PLAIN), -8), "CRC"),
    "too many axes":    (struct.pack(">I", 0x8FF) + bytes(4 * 255), "dimension"),
}
# fmt: on


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named_with_the_file_and_the_remedy(tmp_path, name):
    content, message = DAMAGED[name]
    with pytest.raises(LoadError, match=message) as error:
        read(tmp_path, content)
    assert "some-idx: " in str(error.value) and "downloaded again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", range(0, len(gzip.compress(PLAIN, mtime=0)), 3))
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path, place):
    try:
        found = read(tmp_path, flipped(gzip.compress(PLAIN, mtime=0), place))
    except LoadError:
        return
    np.testing.assert_array_equal(found, ARRAY)


def test_labels_are_no_images(tmp_path):
    with pytest.raises(LoadError, match="starts with 00000803, expected 00000801"):
        read(tmp_path, PLAIN, idx.LABELS)


def test_a_missing_file_is_a_load_error(tmp_path):
    with pytest.raises(LoadError, match="No such file"):
        idx.read(tmp_path / "nothing.gz")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("axes", [(2**32 - 1,) * 3, (60_000, 100, 100)])
def test_a_header_that_lies_claims_no_memory(tmp_path, pack, axes):
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match="ends after 0 of"):
            read(tmp_path, pack(struct.pack(">4I", 0x803, *axes)))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
