"""Files of tensors: what could run code is refused, in words that do not advise to run it."""

import pickle
import warnings

import pytest
import torch

from utilities import tensor_file


class Payload:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return self.canary.touch, ()


def test_tensors_and_plain_values_come_back(tmp_path):
    torch.save({"weights": torch.ones(2), "name": "x"}, tmp_path / "a.pt")
    content = tensor_file.read(tmp_path / "a.pt")
    assert isinstance(content, dict) and content["name"] == "x"
    assert torch.equal(content["weights"], torch.ones(2))


@pytest.mark.parametrize("way", ["torch", "pickle", "zip", "noise", "nothing"])
def test_anything_else_is_refused_without_running_or_advising_it(tmp_path, way):
    file, canary = tmp_path / "a.pt", tmp_path / "opened"
    if way == "torch":
        torch.save({"a": Payload(canary)}, file)
    else:
        content = {"noise": b"abc", "nothing": b"", "zip": b"PK\3\4" + bytes(200)}
        content["pickle"] = pickle.dumps(Payload(canary), 4)
        file.write_bytes(content[way])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="only tensors and plain values are read") as error:
            tensor_file.read(file)
    assert not canary.exists() and "weights_only" not in str(error.value)


def test_a_flipped_bit_is_found_where_checksums_are_asked_for(tmp_path):
    file = tmp_path / "a.pt"
    torch.save({"weights": torch.full((1000,), 1.5)}, file)
    content = bytearray(file.read_bytes())
    content[content.find(torch.full((4,), 1.5).numpy().tobytes()) + 2000] ^= 1
    file.write_bytes(content)
    assert (tensor_file.read(file)["weights"] == 1.5).sum() == 999  # as torch reads it
    with pytest.raises(ValueError, match="damaged"):
        tensor_file.read(file, whole=True)
