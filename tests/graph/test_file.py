"""Files of graphs: what goes in comes out and goes on; what is damaged or hostile is refused in one
line, and takes no more room than some times its own."""

import json
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from lenet import batches, make

import tinyinfer as ti
from tinyinfer.graph import passes
from tinyinfer.graph.file import ARRAYS, FORMAT, TEXT, VERSION, load_graph, packed
from tinyinfer.graph.text import values

A = lambda *shape: np.random.RandomState(0).randn(*shape).astype(np.float32)


def same_values(a, b):
    a, b = values(a), values(b)
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def small():
    w = ti.State(A(3, 4), requires_grad=True, name="w")
    n = ti.State(np.array(0), name="steps")

    def step(x):
        n.assign(n + 1)
        return ti.scan(lambda h, r: (h * 0.5 + r @ w, h * A(5, 4)), ti.zeros(4), x)[0] * A(6, 4)

    return ti.trace(step, ti.zeros(2, 3))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "small.tig"
    small().save(path)
    return path


# What goes in comes out


def test_a_training_step_goes_on_from_where_it_was_saved(tmp_path):
    _, _, step = make()
    data = batches(6)
    graph = ti.trace(step, *map(ti.tensor, data[0]))
    for batch in data[:2]:
        graph.run(*batch)
    graph.save(tmp_path / "step.tig")
    losses = [graph.run(*batch) for batch in data[2:]]
    back = load_graph(tmp_path / "step.tig").verify()
    assert str(back) == str(graph) and not same_values(back, graph)
    assert losses == [back.run(*batch) for batch in data[2:]]
    assert same_values(back, graph)


def test_constants_and_graphs_inside_come_back(saved):
    graph, back = small(), load_graph(saved)
    assert str(graph) == str(back) and same_values(graph, back)
    assert {"w", "steps", "c0"} < values(back).keys() and len(values(back)) == 4
    assert graph.run(A(2, 3)).tobytes() == back.run(A(2, 3)).tobytes()
    assert values(back)["steps"] == 1


def test_the_history_stays_behind(tmp_path):
    graph = passes.strip(small())
    graph.save(tmp_path / "x.tig")
    assert len(graph.history) == 1 and load_graph(tmp_path / "x.tig").history == ()


def test_other_tools_can_read_it(saved):
    with zipfile.ZipFile(saved) as archive:
        assert archive.namelist() == [TEXT, ARRAYS]
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        about = json.loads(archive.read(TEXT))
        arrays = safetensors.numpy.load(archive.read(ARRAYS))
    assert about == {"format": FORMAT, "version": VERSION, "graph": str(small()).split("\n")}
    assert arrays.keys() == values(small()).keys() and np.array_equal(arrays["w"], A(3, 4))


def test_what_cannot_be_written_leaves_the_old_and_no_litter(saved):
    before = saved.read_bytes()
    named = ti.State(A(3), name="__metadata__")
    with pytest.raises(ti.ArgumentError, match="the format's own name"):
        ti.trace(lambda x: x * named, ti.zeros(3)).save(saved)
    saved.with_name("folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        small().save(saved.with_name("folder"))
    assert saved.read_bytes() == before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["folder", "small.tig"]


# What is damaged


def refused_or_equal(path, graph):
    """Was it refused? And if it was, then in one line that names the file."""
    try:
        back = load_graph(path)
    except ti.LoadError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return True
    assert str(back) == str(graph) and same_values(back, graph)
    return False


def test_every_cut_is_refused(saved):
    whole, graph = saved.read_bytes(), small()
    for n in range(len(whole)):
        saved.write_bytes(whole[:n])
        assert refused_or_equal(saved, graph), n


def test_changed_bytes_are_noticed_or_mean_nothing(saved):
    whole, graph = saved.read_bytes(), small()
    unnoticed = 0
    for n in range(0, len(whole), 3):
        saved.write_bytes(whole[:n] + bytes([whole[n] ^ (1 << n % 8)]) + whole[n + 1 :])
        unnoticed += not refused_or_equal(saved, graph)
    assert 0 < unnoticed < 50  # dates and the like in the directory of the zip


def test_much_damage_at_once(saved):
    whole, graph, draw = saved.read_bytes(), small(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(2, 30)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        start = draw.randrange(len(data))
        if draw.random() < 0.3:
            del data[start : start + draw.randrange(100)]
        saved.write_bytes(data)
        refused_or_equal(saved, graph)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ti.LoadError, match="x.tig: there is no such file"):
        load_graph(tmp_path / "x.tig")
    with pytest.raises(ti.LoadError, match="directory"):
        load_graph(tmp_path)


# What is hostile

LINES = ["graph(%x: f32[3])", "  state %w: f32[3]", "  %0: f32[3] = add(%x, %w)", "  return %0"]
W = {"w": A(3)}


def about(**changes):
    return {"format": FORMAT, "version": VERSION, "graph": LINES} | changes


def crafted(path, text, arrays=W, names=(TEXT, ARRAYS), how=zipfile.ZIP_STORED):
    text = text if isinstance(text, str | bytes) else json.dumps(text)
    data = arrays if isinstance(arrays, bytes) else packed(arrays, {})
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in zip(names, (text, data)):
            archive.writestr(name, content)


# fmt: off
HOSTILE = {
    # Members
    "no item named 'graph.json'": dict(text=about(), names=("../graph.json", ARRAYS)),
    "no item named 'arrays.safetensors'": dict(text=about(), names=(TEXT,)),
    "graph.json in it is compressed": dict(text=about(), how=zipfile.ZIP_DEFLATED),
    # JSON
    "cannot be read as a graph: Expecting value": dict(text="no json"),
    "cannot be read as a graph: 'utf-8' codec": dict(text=b'{"a": "\xff"}'),
    "nested too deep": dict(text="[" * 100_000),
    "cannot be read as a graph: Exceeds the limit": dict(text=f'{{"version": {"9" * 5000}}}'),
    "graph.json in it is not that of a graph": dict(text=[1]),
    "json in it is not that of a graph": dict(text=about(format="other")),
    "in it is not that of a graph": dict(text=about(version="1")),
    "it is not that of a graph": dict(text=about(version=0)),
    "is not that of a graph": dict(text=about(version=float("nan"))),
    "not that of a graph": dict(text=about(graph="\n".join(LINES))),
    "that of a graph": dict(text=about(graph=[1, 2])),
    "of a graph": dict(text=about(graph={"0": "graph()"})),
    "version 7 of the format, and this tinyinfer reads up to 1: update": dict(text=about(version=7)),
    # The text
    "line 1: the text ends here": dict(text=about(graph=[])),
    "line 3: %0: there is no op 'system'": dict(text=about(graph=[*LINES[:2], "  %0: f32[3] = system(%x)"])),
    "line 3: %0: an attribute is": dict(text=about(graph=[*LINES[:2], "  %0: f32[3] = add(%x, eval('1'))"])),
    r"line 3: %0: it gives a float32\[3\]": dict(text=about(graph=[*LINES[:2], LINES[2].replace(": f32[3]", ": f32[4]")])),
    "line 4: %0: %0 is defined twice": dict(text=about(graph=[*LINES[:3], LINES[2]])),
    "line 3: %c: there is no array": dict(text=about(
        graph=[*LINES[:2], "  %c: f32[999999999999999, 999999999999999] = constant(0.0)"])),
    "line 102: %0: more than 50 graphs inside graphs": dict(text=about(graph=[LINES[0], *(
        line for i in range(1, 1000) for line in
        ("  " * (2 * i - 1) + "%0: f32[3] = fused(%x)", "  " * (2 * i) + "graph(%x: f32[3])"))])),
    # Arrays
    "line 2: %w: its value is not in the text": dict(text=about(), arrays={}),
    r"line 2: %w: the text says float32\[3\], and its value is a float32\[4\]": dict(text=about(), arrays={"w": A(4)}),
    r"line 2: %w: the text says float32\[3\], and its value is a float64": dict(text=about(), arrays={"w": A(3).astype("f8")}),
    "cannot be read as a graph: Error while deserializing": dict(text=about(), arrays=b""),
    "graph: Error while deserializing": dict(text=about(), arrays=struct.pack("<Q", 2**63) + b"{}"),
    "its checksum is wrong": dict(text=about(), arrays=packed(W, {})[:-1] + b"x"),
    "w is BF16, and tensors are": dict(text=about(), arrays=(
        lambda h: struct.pack("<Q", len(h)) + h + b"abcdef")(b'{"w":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}')),
}
# fmt: on


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path, words):
    path = tmp_path / "x.tig"
    crafted(path, **HOSTILE[words])
    with pytest.raises(ti.LoadError, match=words) as raised:
        load_graph(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_the_crafted_file_is_right_but_for_what_was_changed(tmp_path):
    crafted(tmp_path / "x.tig", about())
    assert np.array_equal(load_graph(tmp_path / "x.tig").run(A(3)), A(3) + A(3))


def peak_while_loading(path):
    tracemalloc.start()
    try:
        with pytest.raises(ti.LoadError):
            load_graph(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_bomb_goes_off(tmp_path):
    """Much that is packed into little: as it says, and said to be stored in both places of a zip."""
    path = tmp_path / "bomb.tig"
    crafted(path, " " * 3 * 10**7, how=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5 and peak_while_loading(path) < 10**6
    data = bytearray(path.read_bytes())
    for mark, method in (b"PK\x03\x04", 8), (b"PK\x01\x02", 10):
        at = data.index(mark) + method
        assert data[at : at + 2] == b"\x08\0"
        data[at : at + 2] = b"\0\0"
    path.write_bytes(data)
    assert peak_while_loading(path) < 10**6


def test_sizes_that_a_file_only_claims_take_no_room(saved):
    data = bytearray(saved.read_bytes())
    start = data.index(b"PK\x01\x02")
    data[start + 20 : start + 28] = b"\xf0\xff\xff\x7f" * 2  # of graph.json: 2 GB, it says
    saved.write_bytes(data)
    assert peak_while_loading(saved) < 10**6


def test_what_is_read_cannot_run(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("os.system", ran.append)
    for expression in "__import__('os').system('x')", "(lambda: os.system('x'))()", "f'{x}'":
        crafted(tmp_path / "x", about(graph=[*LINES[:2], f"  %0: f32[3] = add(%x, {expression})"]))
        with pytest.raises(ti.LoadError):
            load_graph(tmp_path / "x")
    crafted(tmp_path / "x", about(), b"\x80\x04\x95" + b"." * 100)  # the beginning of a pickle
    with pytest.raises(ti.LoadError):
        load_graph(tmp_path / "x")
    assert not ran
