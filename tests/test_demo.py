"""configs/demo.yaml: the paper's method from what the requirements bring, without a network."""

import csv
import json
import socket
from pathlib import Path

import main
import parameters
from architectures import embedding_network, packaged
from benchmarks import shared
from language_guidance import pseudolabels

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def test_its_networks_come_with_the_requirements():
    opt = parameters.parse(["--config", str(DEMO)])
    trunk = embedding_network.parse_arch(opt.arch).trunk
    assert {trunk, opt.language_pseudoclass_arch} <= packaged.PACKAGED.keys()
    assert not opt.not_pretrained and not opt.arch_weights and opt.language_model == "minilm"
    assert opt.language_distill_w > 0 and opt.language_pseudoclass


def test_pseudolabels_guide_it_without_a_network(tmp_path, monkeypatch):
    """Its trunk, its classifier of all ImageNet classes and its texts, on eight small classes."""

    def refuse(*ignored: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    opt = parameters.parse(["--config", str(DEMO)])
    weight = str(opt.language_distill_w)
    small = shared.smoke_flags(tmp_path / "data")
    small[small.index("--config") + 1] = str(DEMO)
    flags = [*small, "--language_distill_w", weight, "--save_path", str(tmp_path / "runs")]
    assert main.main(flags) == 0
    folder = tmp_path / "runs" / "shapes" / f"{opt.group}_s0"
    assert json.loads((folder / "results.json").read_text())["metrics"]["Test"]
    with (folder / "class_texts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["class"] for row in rows}) == len(shared.SHAPES)
    assert {row["text"] for row in rows} <= set(pseudolabels.class_names())
