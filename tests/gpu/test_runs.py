"""What stands around a step, elsewhere than on the CPU: metrics, samplers, checkpoints, main.py."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pretended_gpu
import pytest
import torch
from every_objective import unit
from pretended_gpu import DEVICE
from torch.utils.data import DataLoader

import build
import datasampler
import main
import metrics
from datasampler.storage import StorageSampler
from datasets import loading
from evaluation import Protocol
from evaluation.evaluate import evaluate_embeddings
from language_guidance import pseudolabels
from utilities.logger import RunLog
from utilities.run_folder import LAST_CHECKPOINT
from utilities.types import Batch

NAMES = [name.replace("@K", "@2").replace("@M", "@1") for name in metrics.REGISTRY]
ODD_AND_EVEN = (slice(0, 8, 2), slice(1, 8, 2))
STEPS = ("criteria/", "batchminer/", "language_guidance/guide.py", "training/")


def split(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % 7
    centres = unit(7, seed=1)[labels]
    return (centres + 0.5 * unit(count, seed=2)).float(), labels


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_metrics_are_those_of_the_cpu(backend):
    embeddings, labels = split()
    protocol = Protocol(labels, labels // 2)
    texts = unit(7, seed=3).float()

    def values(rows: torch.Tensor) -> dict[str, float]:
        asked = {"backend": backend, "memory": 2**28, "text_vectors": texts}
        return evaluate_embeddings(rows, protocol, NAMES, **asked)

    assert values(embeddings.to(DEVICE)) == pytest.approx(values(embeddings), rel=1e-6)


def test_queries_and_a_gallery_of_their_own_are_searched_as_on_the_cpu():
    embeddings, labels = split()
    protocol = Protocol(labels, None, torch.arange(0, 60, 2), torch.arange(1, 60, 3))
    names = [name for name in NAMES if metrics.parse(name).depth and "superclass" not in name]
    found, expected = (
        evaluate_embeddings(rows, protocol, names, backend="torch", memory=2**28)
        for rows in (embeddings.to(DEVICE), embeddings)
    )
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", datasampler.REGISTRY)
def test_samplers_choose_by_embeddings_of_a_device(name):
    embeddings, labels = split()
    chosen = []
    for rows in (embeddings, embeddings.to(DEVICE)):
        sampler = datasampler.select(
            name, labels.numpy(), batch_size=12, samples_per_class=2, seed=0, projection_dim=3
        )
        if isinstance(sampler, StorageSampler):
            sampler.refresh(rows)
        chosen.append(list(sampler))
    assert chosen[0] == chosen[1]


def test_a_classifier_looks_at_images_there():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 9))
    images = unit(8, dim=12).float().view(8, 3, 2, 2)
    batches = [Batch(images[at], torch.zeros(4), torch.arange(8)[at]) for at in ODD_AND_EVEN]
    found, expected = (
        pseudolabels.classify(network, batches, count=8, device=device)
        for device in (DEVICE, torch.device("cpu"))
    )
    assert found.device.type == "cpu" and torch.equal(found, expected)


@pytest.fixture
def elsewhere(monkeypatch) -> Iterator[None]:
    """main.py finds the pretended GPU, for which its loader pins batches."""

    def pinning(*arguments, **options) -> DataLoader:
        return DataLoader(*arguments, **options | {"pin_memory": True})

    monkeypatch.setattr(build, "select_device", lambda device, gpu: DEVICE)
    monkeypatch.setattr(loading, "DataLoader", pinning)
    monkeypatch.setattr(RunLog, "draw", lambda self: None)  # curves, which take half of the time
    with pretended_gpu.pinned_memory():
        yield


def losses(folder: Path) -> np.ndarray:
    """[epochs, losses] of a run."""
    with (folder / "CSV_Logs" / "Data_Train_loss.csv").open() as file:
        rows = list(csv.reader(file))
    return np.array(rows[1:], dtype=float)


SMALL = """
    --dataset birds --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8
    --loss margin --batch_mining distance --bs 12 --lr 1e-3 --kernels 0 --no_figures
    --data_sampler greedy_coreset --no_train_metrics --evaluation_metrics e_recall@1 mAP@R nmi
    --evaluation_backend torch --language_distill_w 1 --language_loss contrastive
    --language_model minilm --ema 0.9 --xbm_size 30
"""


@pytest.fixture
def call(photos, tmp_path, elsewhere, monkeypatch):
    """Run main.py for so many epochs on a device; gives the losses of all."""

    def run(name: str, epochs: int, device: torch.device) -> np.ndarray:
        places = ["--source_path", photos, "--save_path", tmp_path, "--cache_path", tmp_path / "c"]
        argv = ["--savename", name, "--n_epochs", epochs, "--resume", "auto", *places]
        monkeypatch.setattr(build, "select_device", lambda *asked: device)
        assert main.main([*SMALL.split(), *map(str, argv)]) == 0
        return losses(tmp_path / "birds" / name)

    return run


def test_a_run_goes_on_where_it_began_or_on_the_cpu(call, tmp_path):
    cpu = torch.device("cpu")
    with pretended_gpu.waits() as seen:
        there = call("there", 1, DEVICE)
    in_steps = {place for kind, place in seen if "not awaited" not in kind or "pageable" in kind}
    assert not [place for place in in_steps if place.startswith(STEPS)]
    assert there == pytest.approx(call("here", 1, cpu), rel=1e-4)
    state = torch.load(tmp_path / "birds" / "there" / LAST_CHECKPOINT, weights_only=True)
    assert {part.device for part in state["state_dict"].values()} == {cpu}
    assert call("there", 2, cpu) == pytest.approx(call("here", 2, DEVICE), rel=1e-3)
