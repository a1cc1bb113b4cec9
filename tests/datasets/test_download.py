"""Downloads from a local server: whole, resumed, broken off, wrong."""

import hashlib
import http.server
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import small_benchmarks as small

import datasets
from datasets.prepare import download
from programs import prepare as command
from utilities.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Sends `content`.

    `ranges`: whether it can begin in the middle; `stop`: break the connection after so many bytes.
    """

    content, ranges, stop = CONTENT, True, None
    asked: ClassVar[list[str | None]] = []  # the ranges of all requests

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.path != "/file.zip":
            return self.send_error(404)
        start = 0
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : self.stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """The handler class, to be set up by a test, with the address of its file."""
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        handler.url = f"http://127.0.0.1:{running.server_port}/file.zip"
        yield handler
        running.shutdown()
        thread.join()


def test_a_whole_file_comes_once(server, tmp_path):
    for _ in range(2):
        assert download.fetch(server.url, tmp_path, MD5).read_bytes() == CONTENT
    assert server.asked == [None] and [path.name for path in tmp_path.iterdir()] == ["file.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server, tmp_path, ranges):
    server.ranges, server.stop = ranges, 100_000
    with pytest.raises(UserError, match="after 0.1 of 0.3 MB; the same command goes on"):
        download.fetch(server.url, tmp_path, MD5)
    assert not (tmp_path / "file.zip").exists()
    server.stop = None
    assert download.fetch(server.url, tmp_path, MD5).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]


def test_a_part_that_is_whole_is_taken(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert download.fetch(server.url, tmp_path, MD5).read_bytes() == CONTENT


def test_a_file_of_another_checksum_is_removed(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=MD5):
        download.fetch(server.url, tmp_path, MD5)
    assert list(tmp_path.iterdir()) == []
    assert download.fetch(server.url, tmp_path, MD5).read_bytes() == CONTENT


def test_a_file_that_was_there_is_not_touched(server, tmp_path):
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(UserError, match="not the published file"):
        download.fetch(server.url, tmp_path, MD5)
    assert (tmp_path / "file.zip").read_bytes() == b"mine" and server.asked == []


def test_an_address_that_does_not_answer(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        download.fetch(server.url.replace("file", "other"), tmp_path, MD5)
    with pytest.raises(UserError, match="does not answer.*--from"):
        download.fetch("http://127.0.0.1:1/file.zip", tmp_path, MD5)
    assert not list(tmp_path.glob("*.zip"))


def test_a_full_disk_is_told_first(server, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(UserError, match="are free"):
        download.fetch(server.url, tmp_path, MD5)


def test_download_and_prepare_in_one_command(server, tmp_path, monkeypatch, capsys):
    small.use_small_counts(monkeypatch)
    server.content = small.zipped(tmp_path / "a.zip", small.products()).read_bytes()
    facts = datasets.online_products.FACTS
    monkeypatch.setattr(
        datasets.online_products,
        "FACTS",
        facts._replace(url=server.url, files={"file.zip": hashlib.md5(server.content).hexdigest()}),
    )
    argv = ["online_products", "--download", "--to", str(tmp_path / "to")]
    server.stop = 1000
    assert command.main(argv) == 2 and "goes on from there" in capsys.readouterr().err
    server.stop = None
    assert command.main(argv) == 0
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == [
        "file.zip",
        "online_products",
    ]
    assert len(datasets.select("online_products", str(tmp_path / "to")).training) == 12
    (tmp_path / "to" / "file.zip").unlink()
    capsys.readouterr()
    assert command.main(argv) == 0 and "nothing to do" in capsys.readouterr().out
    assert not (tmp_path / "to" / "file.zip").exists()


@pytest.mark.parametrize(
    "name", [name for name, dataset in datasets.BENCHMARKS.items() if dataset.FACTS.url]
)
def test_what_can_be_fetched_has_a_checksum(name):
    facts = datasets.BENCHMARKS[name].FACTS
    assert len(facts.files[Path(facts.url).name]) == 32
