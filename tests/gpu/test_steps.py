"""A training step elsewhere than on the CPU: the CPU's values, and no wait for the device."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pretended_gpu
import pytest
import torch
from every_objective import build, every_form, output_of, unit
from pretended_gpu import DEVICE
from small_learner import Network
from small_networks import untrained

import batchminer
import criteria
from criteria.quadruplet import draw_fourth
from language_guidance import controls
from language_guidance.guide import ContrastiveGuide, Guide, LanguageGuide, SquaredGuide
from language_guidance.similarities import BankSimilarities, Blend, MatrixSimilarities
from language_guidance.text_bank import TextBank
from training import Learner, Updates, WeightedGuide, optimizers, schedules
from utilities.functional import MASKED_AT_MOST
from utilities.runtime import Runtime
from utilities.types import ModelOutput, PaddedMiner, PixelBatch

LABELS = {
    "usual": [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3],
    "one alone": [3, 0, 0, 2, 1, 1, 1, 3, 3, 0],  # its triplet is a filler
    "one class": [1, 1, 1, 1],
    "all different": [0, 1, 2, 3],
}
MINERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in batchminer.REGISTRY},
    "npair-mc": ("npair", {"form": "mc"}),
    "random_distance-shuffled": ("random_distance", {"shuffle_labels": True}),
    "semihard-textbook": ("semihard", {"form": "textbook"}),
}
# Of a miner whose triplets have no bound but the cube of the batch: their number is asked for once.
# Every other objective, miner and guide of ours waits for nothing.
WAITS = {"multisimilarity": {"repeat_interleave": 1}}

# Miners of pytorch-metric-learning return as many pairs or triplets as they find, and ask how many:
# the waits of a step of that library's objective, and of ours on its triplets (version 2.9.0).
BRIDGED = {"MultiSimilarityMiner": (5, 5), "TripletMarginMiner": (5, 4)}


def select(miner: str) -> batchminer.BatchMiner:
    name, options = MINERS[miner]
    return batchminer.select(name, **options)


def takes(name: str) -> list[str]:
    """The miners that an objective can be given, "" for none."""
    if "miner" not in criteria.REGISTRY[name].NEEDS:
        return [""]
    known = criteria.REGISTRY[name].MINERS
    return [miner for miner in MINERS if known is None or MINERS[miner][0] in known]


def every_step() -> Iterator:
    """Each objective in each form with each miner that it takes."""
    for form in every_form():
        name, settings = form.values
        if name == "quadruplet":  # its fourth sample is drawn; see below
            settings = {"margin_alpha_2": -9.0}
        for miner in takes(name):
            yield pytest.param(name, settings, miner, id=f"{form.id}-{miner}".rstrip("-"))


class Recorded:
    """A miner that gives what another gave."""

    def __init__(self, triplets: torch.Tensor):
        self.triplets = triplets

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.triplets


def there(output: ModelOutput) -> ModelOutput:
    return ModelOutput(*(part.detach().to(DEVICE).requires_grad_() for part in output))


def here(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    return [part.detach().cpu() for part in parts]


def require_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """In float64: the order of sums is all that may differ."""
    torch.testing.assert_close(here(found), here(expected), rtol=1e-10, atol=1e-12)


def batch(labels: list[int]) -> tuple[ModelOutput, torch.Tensor]:
    output = output_of(unit(len(labels)))
    leaves = ModelOutput(*(part.detach().requires_grad_() for part in output))
    return leaves, torch.tensor(labels)


def step(
    criterion: criteria.Criterion, output: ModelOutput, labels: torch.Tensor
) -> list[torch.Tensor]:
    """The loss and the gradients of what was read and of what is learnt."""
    torch.manual_seed(5)
    leaves = [*output, *criterion.parameters()]
    for leaf in leaves:
        leaf.grad = None
    loss = criterion(output, labels)
    loss.backward()
    return [loss, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def kinds_of(seen: Counter) -> dict[str, int]:
    """How often the host waited, by kind; pinned copies that are not awaited do not count."""
    kinds: Counter = Counter()
    for (kind, _), times in seen.items():
        kinds[kind] += times
    kinds.pop("copy from the host, not awaited", None)
    return dict(kinds)


def choice(miner: str, output: ModelOutput, labels: torch.Tensor) -> torch.Tensor:
    """The triplets that a step on the device chooses, on the CPU."""
    torch.manual_seed(5)
    return select(miner)(output.embeddings.detach().to(DEVICE), labels.to(DEVICE)).cpu()


def require_equal_steps(
    criterion: criteria.Criterion, name: str, settings: dict, miner: str, labels: list[int]
) -> Counter:
    """Compares one on the device with one on the CPU; gives the waits of the former."""
    output, y = batch(labels)
    recorded = Recorded(choice(miner, output, y)) if miner else None
    expected = step(build(name, settings, recorded).double(), output, y)
    given = there(output), y.to(DEVICE)
    with pretended_gpu.waits() as seen:
        found = step(criterion, *given)
    require_close(found, expected)
    return seen


@pytest.mark.parametrize("name, settings, miner", every_step())
def test_a_step_has_the_values_of_the_cpu_and_waits_for_nothing(name, settings, miner):
    criterion = build(name, settings, select(miner) if miner else None).double().to(DEVICE)
    require_equal_steps(criterion, name, settings, miner, LABELS["usual"])  # copies its constants
    seen = require_equal_steps(criterion, name, settings, miner, LABELS["one alone"])
    is_asked_for_triplets = name not in ("npair", "angular", "lifted")
    assert kinds_of(seen) == (WAITS.get(miner, {}) if is_asked_for_triplets else {}), seen


@pytest.mark.parametrize("labels", ["one class", "all different"])
@pytest.mark.parametrize("name, settings", every_form())
def test_a_batch_without_pairs_has_the_values_of_the_cpu(name, settings, labels):
    miner = takes(name)[-1]
    criterion = build(name, settings, select(miner) if miner else None).double().to(DEVICE)
    require_equal_steps(criterion, name, settings, miner, LABELS[labels])


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("miner", MINERS)
def test_a_miner_chooses_as_on_the_cpu(miner, labels):
    output, y = batch(labels)
    torch.manual_seed(5)
    expected, found = select(miner)(output.embeddings, y), choice(miner, output, y)
    if miner == "random":  # which shuffles otherwise; its odds are tested with those of the CPU
        assert len(found) == len(expected) == len(found.unique(dim=0))
    else:
        assert sorted(found.tolist()) == sorted(expected.tolist())


def test_which_miners_a_step_waits_for():
    unbounded = {name for name in MINERS if not isinstance(select(name), PaddedMiner)}
    assert unbounded == WAITS.keys()


def test_an_own_generator_of_the_cpu_draws_on_the_device_what_it_draws_on_the_cpu():
    output, y = batch(LABELS["usual"])
    for name in ("distance", "npair-mc"):
        chosen = []
        for device in (torch.device("cpu"), DEVICE):
            miner = select(name)
            miner.generator = torch.Generator().manual_seed(3)
            chosen.append(miner(output.embeddings.to(device), y.to(device)).cpu())
        assert torch.equal(*chosen)


def test_the_fourth_sample_is_drawn_without_a_wait():
    y = torch.tensor(LABELS["one alone"])
    triplets = torch.tensor([[1, 2, 3], [4, 5, 0], [0, 7, 2], [1, 1, 2]])
    drawn = []
    for device in (torch.device("cpu"), DEVICE):
        arguments = y.to(device), triplets.to(device)
        torch.manual_seed(1)
        with pretended_gpu.waits() as seen:
            fourth = draw_fourth(*arguments)
        assert not seen
        drawn.append(here(list(fourth)))
    assert all(map(torch.equal, *drawn))


@pytest.mark.parametrize("name", ["smooth_ap", "recall_at_k"])
def test_a_table_of_all_pairs_and_the_batch_is_masked_while_it_is_small(name):
    """Beyond, its memory would be the cube of the batch, so that one size is asked for."""
    count = round(MASKED_AT_MOST ** (1 / 3)) + 2
    output, y = batch([row // 2 for row in range(count)])
    criterion, elsewhere, labels = build(name, {}).to(DEVICE), there(output), y.to(DEVICE)
    step(criterion, elsewhere, labels)
    with pretended_gpu.waits() as seen:
        found = step(criterion, elsewhere, labels)
    assert kinds_of(seen) == {"nonzero": 1}
    require_close(found, step(build(name, {}), output, y))


@pytest.mark.parametrize("miner, counts", BRIDGED.items())
def test_the_bridge_works_and_waits_as_that_library_does(miner, counts):
    pytest.importorskip("pytorch_metric_learning")
    output, y = batch(LABELS["usual"])
    results, waited = [], []
    for device in (torch.device("cpu"), DEVICE):
        native = {"n_classes": 4, "embed_dim": 5, "miner": batchminer.select(f"pml:{miner}")}
        for name in ("pml:MultiSimilarityLoss", "triplet"):  # with its pairs, and by triplets
            criterion = criteria.select(name, **native).double().to(device)
            placed = output if device.type == "cpu" else there(output)
            labels = y.to(device)
            with pretended_gpu.waits() as seen:
                results.append(step(criterion, placed, labels))
            waited.append(sum(kinds_of(seen).values()))
    require_close([*results[2], *results[3]], [*results[0], *results[1]])
    assert waited[2:] == list(counts), seen


def bank(by_image: bool = False, with_shares: bool = False) -> TextBank:
    random = torch.Generator().manual_seed(2)
    rows = 12 if by_image else 4
    assignment = torch.randint(6, (rows, 3), generator=random)
    shares = torch.rand(rows, 3, generator=random).softmax(1) if with_shares else None
    vectors = torch.randn(6, 7, generator=random)
    return TextBank(vectors, assignment, by_image=by_image, shares=shares)


def shuffled(of: TextBank) -> TextBank:
    donors = controls.shuffled_classes(4, seed=0)
    return controls.shuffle(of, donors, torch.tensor(LABELS["usual"]))


SOURCES = {
    "names": lambda: bank(),
    "images": lambda: bank(by_image=True),
    "shares": lambda: bank(with_shares=True),
    "matrix": lambda: MatrixSimilarities(torch.eye(4) + 0.1),
    "blend": lambda: Blend(
        [BankSimilarities(bank()), BankSimilarities(bank(True, True))], [0.25, 0.75]
    ),
    "shuffled": lambda: shuffled(bank()),
    "shuffled images": lambda: shuffled(bank(by_image=True)),
    "random": lambda: controls.unrelated("random", 4, seed=0),
    "onehot": lambda: controls.unrelated("onehot", 4, seed=0),
}
GUIDES = {
    "backward": LanguageGuide,
    "forward": lambda source: LanguageGuide(source, direction="forward", temperature=0.5),
    "squares": lambda source: SquaredGuide(source, rise=3),
    "contrastive": lambda source: ContrastiveGuide(source, embed_dim=5),
}
WITHOUT_VECTORS = ("matrix", "onehot")


def guided(guide: Guide, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor):
    leaf = embeddings.detach().requires_grad_()
    loss = guide(leaf, labels, indices)
    loss.backward()
    return [loss, leaf.grad, *(part.grad for part in guide.parameters())]


@pytest.mark.parametrize(
    "kind, source",
    [
        (kind, source)
        for kind in GUIDES
        for source in SOURCES
        if kind != "contrastive" or source not in WITHOUT_VECTORS
    ],
)
def test_a_guide_has_the_values_of_the_cpu_and_waits_for_nothing(kind, source):
    output, y = batch(LABELS["usual"])
    indices = torch.arange(len(y)).flip(0)
    expected = guided(GUIDES[kind](SOURCES[source]()).double(), output.embeddings, y, indices)
    guide = GUIDES[kind](SOURCES[source]()).double().to(DEVICE)
    given = output.embeddings.detach().to(DEVICE), y.to(DEVICE), indices.to(DEVICE)
    with pretended_gpu.waits() as seen:
        found = guided(guide, *given)
    assert not seen
    require_close(found, expected)


def pixels() -> PixelBatch:
    random = torch.Generator().manual_seed(4)
    images = torch.randint(256, (12, 3, 2, 2), dtype=torch.uint8, generator=random)
    y, indices = torch.tensor(LABELS["usual"]), torch.arange(12)
    half = (0.5, 0.5, 0.5)
    return PixelBatch(images, y, indices, torch.tensor([1, 4]), half, half)


def pinned(of: PixelBatch) -> PixelBatch:
    names = ("images", "labels", "indices", "mirrored")
    return of._replace(**{name: getattr(of, name).pin_memory() for name in names})


def learner(name: str, settings: dict, miner: str, device: torch.device) -> Learner:
    torch.manual_seed(1)
    network = Network()
    network.head = torch.nn.Linear(6, 5)
    criterion = build(name, settings, select(miner) if miner else None)
    guide = ContrastiveGuide(bank(), embed_dim=5)
    parts = [network.to(device), criterion.to(device), guide.to(device)]
    groups = [{"params": list(part.parameters()), "lr": 0.01} for part in parts]
    optimizer = optimizers.select("adam", [group for group in groups if group["params"]])
    return Learner(
        network,
        criterion,
        Updates(optimizer, schedules.select("none", optimizer, schedules.Course(1))),
        runtime=Runtime(device),
        guidance=WeightedGuide(guide, 1.0),
    )


@pytest.mark.parametrize(
    "name, settings, miner",
    [
        ("multisimilarity", {}, ""),
        ("margin", {}, "distance"),
        ("proxyanchor", {}, ""),
        ("triplet", {}, "multisimilarity"),
    ],
)
def test_a_whole_step_waits_for_nothing(name, settings, miner):
    results = []
    for device in (torch.device("cpu"), DEVICE):
        of = learner(name, settings, miner, device)
        of.start_epoch(0)
        with pretended_gpu.pinned_memory():
            placed = pinned(pixels())
            torch.manual_seed(6)
            of.step(placed)
            with pretended_gpu.waits() as seen:
                losses = of.step(placed)
        results.append(here([*losses.values(), *of.network.parameters()]))
    assert kinds_of(seen) == WAITS.get(miner, {}), seen
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stage", ["", "layer3"])
def test_folded_norms_have_the_values_of_the_cpu_and_wait_for_nothing(stage):
    images, results = unit(2, dim=3 * 32 * 32).view(2, 3, 32, 32), []
    for device in (torch.device("cpu"), DEVICE):
        torch.manual_seed(1)
        network = untrained("test_resnet_frozen_normalize")
        if stage:
            network.freeze_until(stage)
        network.fold_norms(32)
        network.double().to(device)
        placed = images.to(device)
        with pretended_gpu.waits() as seen:
            embeddings = network(placed).embeddings
            embeddings[:, 0].sum().backward()
        gradients = [each.grad for each in network.parameters() if each.grad is not None]
        results.append([embeddings, *gradients])
    assert network.folded and not seen
    require_close(*results)
