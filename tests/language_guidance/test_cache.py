"""Tensors that are computed once."""

from functools import partial

import pytest
import torch

from language_guidance import cache
from language_guidance.cache import digest

remember = partial(cache.remember, shape=(3,))


class Counted:
    """Computes 0, 1, 2, ... and counts."""

    calls = 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        return torch.full((3,), float(self.calls))


def test_computed_once_per_key_and_kind(tmp_path):
    compute = Counted()
    folder = tmp_path / "new" / "cache"
    first = remember(folder, "text", "a", compute)
    assert torch.equal(first, remember(folder, "text", "a", compute)) and compute.calls == 1
    remember(folder, "text", "b", compute)
    remember(folder, "logits", "a", compute)
    assert compute.calls == 3
    assert sorted(path.name for path in folder.iterdir()) == [
        "logits-a.pt",
        "text-a.pt",
        "text-b.pt",
    ]


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_file_is_computed_anew(tmp_path, caplog, content):
    compute = Counted()
    remember(tmp_path, "text", "a", compute)
    path = tmp_path / "text-a.pt"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    assert remember(tmp_path, "text", "a", compute)[0] == 2
    assert str(path) in caplog.text
    assert remember(tmp_path, "text", "a", compute)[0] == 2


@pytest.mark.parametrize(
    "content", [torch.zeros(2), torch.zeros(3, 1), {"a": torch.zeros(3)}, 7], ids=type
)
def test_something_else_than_a_tensor_of_the_shape_is_computed_anew(tmp_path, caplog, content):
    torch.save(content, tmp_path / "text-a.pt")
    assert remember(tmp_path, "text", "a", Counted()).tolist() == [1, 1, 1]
    assert "something else" in caplog.text


def test_a_size_may_be_left_open(tmp_path):
    compute = Counted()
    for _ in range(2):
        cache.remember(tmp_path, "text", "a", compute, shape=(None,))
    assert compute.calls == 1


def test_a_folder_that_cannot_be_made_only_warns(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert remember(tmp_path / "file", "text", "a", Counted())[0] == 1
    assert "--cache_path" in caplog.text


def test_a_file_that_cannot_be_written_only_warns(tmp_path, caplog, monkeypatch):
    def fail(value, path):
        path.write_bytes(b"half")
        # How torch's writer tells of a full disk or a read-only folder.
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    assert remember(tmp_path, "text", "a", Counted())[0] == 1
    assert "--cache_path" in caplog.text and list(tmp_path.iterdir()) == []


def test_code_in_a_cached_file_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save(Evil(), tmp_path / "text-a.pt")
    assert remember(tmp_path, "text", "a", Counted())[0] == 1
    assert not (tmp_path / "ran").exists()


def test_digest_tells_different_content_apart(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    found = [
        digest("a", ["b"]),
        digest("a", ["c"]),
        digest("ab"),
        digest("a", "b"),
        digest(["a", "b"]),
        digest(["ab"]),
        digest("a", None),
        digest(tmp_path / "a"),
    ]
    assert len(set(found)) == len(found)
    assert digest("a", ["b"]) == found[0] and digest(tmp_path / "b") == found[-1]
    (tmp_path / "a").write_bytes(b"2")
    assert digest(tmp_path / "a") != found[-1]
