import hashlib
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinyinfer.data.download import FASHION_MNIST, MNIST, Source, locate
from tinyinfer.errors import LoadError

FILE = "train-images-idx3-ubyte.gz"
GOOD = bytes(range(256)) * 1000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Lying(Quiet):
    """Announces a length that is no number."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "many")
        self.end_headers()
        self.wfile.write(GOOD)


class Breaking(Quiet):
    """Announces the whole file, sends half of it, hangs up."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(GOOD[: len(GOOD) // 2])


@contextmanager
def served(handler):
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("TINYINFER_DATA", raising=False)


@pytest.fixture
def mirrors(tmp_path):
    """Addresses: of a good file, of one with a changed byte, of one that breaks off, of none."""
    for folder, content in {"good": GOOD, "tampered": b"\1" + GOOD[1:]}.items():
        (tmp_path / "www" / folder).mkdir(parents=True)
        (tmp_path / "www" / folder / FILE).write_bytes(content)
    with (
        served(partial(Quiet, directory=tmp_path / "www")) as www,
        served(Breaking) as truncated,
    ):
        yield {
            "good": www + "good/",
            "tampered": www + "tampered/",
            "truncated": truncated,
            "missing": www + "missing/",
        }


def source(*mirrors):
    return Source("toy", mirrors, {FILE: hashlib.md5(GOOD).hexdigest()})


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file() or ".part" in path.name]


def test_a_download_lands_in_the_cache_and_serves_next_time(tmp_path, mirrors):
    target = tmp_path / "cache" / "tinyinfer" / "toy" / FILE
    assert locate(source(mirrors["good"]), FILE) == target
    assert target.read_bytes() == GOOD
    assert files(tmp_path / "cache") == [target]
    assert locate(source(mirrors["missing"]), FILE) == target


BAD = {"tampered": "256000 bytes with checksum", "truncated": "128000 bytes", "missing": "404"}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_mirror_leaves_nothing_and_is_named(tmp_path, mirrors, bad):
    with pytest.raises(LoadError, match=BAD[bad]) as error:
        locate(source(mirrors[bad]), FILE)
    assert mirrors[bad] + FILE in str(error.value)
    assert "TINYINFER_DATA" in str(error.value)
    assert files(tmp_path / "cache") == []


@pytest.mark.parametrize("bad", BAD)
def test_after_a_bad_mirror_comes_the_next(tmp_path, mirrors, bad):
    path = locate(source(mirrors[bad], mirrors["good"]), FILE)
    assert path.read_bytes() == GOOD
    assert files(tmp_path / "cache") == [path]


def test_every_mirror_that_failed_is_named(mirrors):
    with pytest.raises(LoadError) as error:
        locate(source(*(mirrors[bad] for bad in BAD)), FILE)
    assert all(mirrors[bad] + FILE in str(error.value) for bad in BAD)


def test_a_length_that_is_no_number():
    with served(Lying) as mirror, pytest.raises(LoadError, match="'many'"):
        locate(source(mirror), FILE)


def test_a_server_that_is_not_there(tmp_path):
    with served(Quiet) as gone:
        pass
    with pytest.raises(LoadError, match="refused"):
        locate(source(gone), FILE)


def test_a_cache_that_cannot_be_written(tmp_path, mirrors):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(LoadError, match="Not a directory"):
        locate(source(mirrors["good"]), FILE)


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    def put(*folders):
        path = tmp_path.joinpath(*folders, FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not checked here")
        return path

    toy = source("http://127.0.0.1:9/")
    last = put("cache", "tinyinfer", "toy")
    assert locate(toy, FILE) == last
    named = put("data", "toy")
    monkeypatch.setenv("TINYINFER_DATA", str(tmp_path / "data"))
    assert locate(toy, FILE) == named
    assert locate(toy, FILE, root=tmp_path / "elsewhere") == last
    put("data")
    assert locate(Source("other", (), {}), FILE, root=tmp_path / "data") == tmp_path / "data" / FILE
    with pytest.raises(LoadError):
        locate(Source("other", (), {}), FILE)
    bare = put("elsewhere")
    assert locate(toy, FILE, root=tmp_path / "elsewhere") == bare


def test_the_home_folder_has_a_cache_too(tmp_path, monkeypatch, mirrors):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = locate(source(mirrors["good"]), FILE)
    assert path == tmp_path / ".cache" / "tinyinfer" / "toy" / FILE


@pytest.mark.parametrize("known", [MNIST, FASHION_MNIST], ids=lambda s: s.name)
def test_sources_are_complete(known):
    parts = {"images-idx3", "labels-idx1"}
    assert set(known.md5) == {f"{h}-{p}-ubyte.gz" for h in ("train", "t10k") for p in parts}
    assert all(len(bytes.fromhex(md5)) == 16 for md5 in known.md5.values())
    assert all(mirror.endswith("/") for mirror in known.mirrors) and len(known.mirrors) >= 2
