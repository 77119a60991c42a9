"""Files of tensors: what goes in comes out, and what is not whole is refused in one line."""

import json
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.core.spec import DTYPES
from tinyinfer.nn import file


def crafted(entry, body, metadata=None):
    """A safetensors file with that one entry in its header."""
    header = {"a": entry} | ({"__metadata__": metadata} if metadata else {})
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "x.safetensors"
    file.save({"w": np.arange(6, dtype="f4").reshape(2, 3), "n": np.int64(3)}, path, {"by": "me"})
    return path


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_every_dtype_comes_back(tmp_path, dtype):
    x = ti.tensor(np.array([[0, 1], [1, 0], [1, 1]]), dtype)
    file.save({"x": x, "number": x[0, 1], "nothing": x[:0]}, tmp_path / "x")
    back = file.load(tmp_path / "x")
    for name, expected in {"x": x, "number": x[0, 1], "nothing": x[:0]}.items():
        assert back[name].spec == expected.spec
        assert back[name].numpy().tobytes() == expected.numpy().tobytes()


def test_transposed_and_reversed_arrays_come_back(tmp_path):
    x = np.arange(6, dtype="f4").reshape(2, 3)
    odd = {"t": x.T, "r": x[:, ::-1], "big": x.astype(">f4"), "tensor": ti.tensor(x).T}
    file.save(odd, tmp_path / "x")
    back = file.load(tmp_path / "x")
    assert all(np.array_equal(back[k].numpy(), v) for k, v in odd.items())


def test_a_model_comes_back(tmp_path):
    a, b = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    file.save(a.state_dict(), tmp_path / "x")
    b.load_state_dict(file.load(tmp_path / "x"))
    for x, y in zip(a.states(), b.states(), strict=True):
        assert np.array_equal(x.numpy(), y.numpy())


def test_metadata(saved):
    assert file.read(saved)[1] == {"by": "me"}


def test_others_read_ours_and_we_read_theirs(saved, tmp_path):
    theirs = safetensors.numpy.load_file(saved)
    assert np.array_equal(theirs["w"], file.load(saved)["w"].numpy())
    safetensors.numpy.save_file(theirs, tmp_path / "theirs")
    tensors, metadata = file.read(tmp_path / "theirs")
    assert tensors["n"].item() == 3 and metadata == {}


def test_every_cut_is_refused(saved, tmp_path):
    whole = saved.read_bytes()
    for n in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:n])
        with pytest.raises(ti.LoadError, match="cut: this cannot be read"):
            file.load(tmp_path / "cut")


def test_every_changed_byte_is_noticed(saved, tmp_path):
    whole, (tensors, metadata) = saved.read_bytes(), file.read(saved)
    for n in range(len(whole)):
        (tmp_path / "flip").write_bytes(whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :])
        try:
            new, about = file.read(tmp_path / "flip")
        except ti.LoadError:
            continue
        # What can change unnoticed is the name of the checksum itself.
        assert {k: v.tolist() for k, v in new.items()} == {
            k: v.tolist() for k, v in tensors.items()
        }
        assert metadata.items() <= about.items()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + b"0" * 100,
        b"\x80\x04\x95" + b"." * 100,
        b"\xff" * 8 + b"{}",
        crafted({"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}, b"abcd"),
        crafted({"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}, b"abcdefgh"),
        crafted({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}, b"abcd"),
        crafted({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, b"abcd"),
        crafted({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, b"abcd"),
        crafted({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, b"abcdefgh"),
        crafted({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, b"abcd", {"by": 3}),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ti.LoadError) as raised:
        file.load(tmp_path / "x")
    assert str(raised.value).startswith(str(tmp_path / "x")) and "\n" not in str(raised.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ti.LoadError, match="no such file"):
        file.load(tmp_path / "x")
    with pytest.raises(ti.LoadError, match="directory"):
        file.load(tmp_path)


@pytest.mark.parametrize("names, metadata", [({3: 1.0}, {}), ({"a": 1.0}, {"epoch": 3})])
def test_names_and_metadata_are_strings(tmp_path, names, metadata):
    with pytest.raises(ti.ArgumentError, match="are strings"):
        file.save(names, tmp_path / "x", metadata)


@pytest.mark.parametrize("names, metadata", [({"__metadata__": 1.0}, {}), ({}, {"crc32": "x"})])
def test_names_of_the_format_are_refused(tmp_path, names, metadata):
    with pytest.raises(ti.ArgumentError, match="the format's own"):
        file.save(names, tmp_path / "x", metadata)


def test_a_full_disk_is_told_with_the_path(tmp_path):
    code = """
import resource, signal, sys
from tinyinfer.nn import file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try: file.save({"x": [1.0] * 1000}, "x")
except OSError as error: print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "[Errno 27] File too large: 'x'\n" and not [*tmp_path.iterdir()]


def test_what_cannot_be_written_leaves_the_old_and_no_litter(saved):
    before = saved.read_bytes()
    with pytest.raises(ti.DTypeError):
        file.save({"w": object()}, saved)
    saved.with_name("folder").mkdir()
    with pytest.raises(OSError):
        file.save({"w": 1.0}, saved.with_name("folder"))
    assert saved.read_bytes() == before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["folder", "x.safetensors"]


WRITER = """
import sys, numpy as np
from tinyinfer.nn import file
for i in range(10**9):
    file.save({"x": np.full(200_000, i, np.float32)}, sys.argv[1])
    print(i, flush=True)
"""


def test_killed_at_any_moment_the_file_is_whole(tmp_path):
    path = tmp_path / "x"
    for kill_after in (1, 2, 5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE
        ) as writer:
            for _ in range(kill_after):
                writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
        x = file.load(path)["x"].numpy()
        assert x.shape == (200_000,) and (x == x[0]).all()
