"""TorchScript archives: their weights, without their code."""

import pickle
import zipfile

import pytest
import torch
from torch import nn

from utilities import torchscript


class Small(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to(dtype)
        self.whole = nn.Parameter(torch.randn(2, 6)[:, ::2].to(dtype))
        self.register_buffer("input_resolution", torch.tensor(224))
        self.sizes = [1, 2]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(rows) + self.whole.sum() + len(self.sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_those_of_the_module(tmp_path, dtype):
    model = Small(dtype)
    torch.jit.script(model).save(str(tmp_path / "a.pt"))
    assert torchscript.is_torchscript(tmp_path / "a.pt")
    read, expected = torchscript.weights(tmp_path / "a.pt"), model.state_dict()
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert read[name].dtype == value.dtype and torch.equal(read[name], value), name


def test_other_files_are_none(tmp_path):
    torch.save(Small().state_dict(), tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"text")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("a/b", "c")
    assert not any(torchscript.is_torchscript(tmp_path / f"{name}.pt") for name in "abc")


def test_no_code_of_the_archive_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Evil(), protocol=2))
        archive.writestr("a/constants.pkl", pickle.dumps((), protocol=2))
    assert torchscript.is_torchscript(tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match="it names"):
        torchscript.weights(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


class Named(nn.Module):
    def __init__(self, child: nn.Module | None):
        super().__init__()
        if child is not None:
            self.left = self.right = child


def test_modules_that_hold_each_other_without_end_are_refused(tmp_path, monkeypatch):
    module = Named(None)
    for _ in range(7):
        module = Named(module)
    torch.jit.script(module).save(str(tmp_path / "a.pt"))
    monkeypatch.setattr(torchscript, "MODULES", 100)
    with pytest.raises(ValueError, match="more than 100 modules"):
        torchscript.weights(tmp_path / "a.pt")


def test_a_pickle_that_names_far_places_takes_no_memory(tmp_path):
    far = b"\x80\x02]r\xff\xff\xff\x3f."  # an empty list, remembered as number 2**30 - 1
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", far)
        archive.writestr("a/constants.pkl", pickle.dumps((), protocol=2))
    with pytest.raises(ValueError, match="no module"):
        torchscript.weights(tmp_path / "a.pt")
