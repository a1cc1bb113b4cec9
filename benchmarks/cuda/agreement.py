"""Do the CPU and the GPU compute the same? Every objective, miner, guide, metric, search, sampler.

    python benchmarks/cuda/agreement.py --results FOLDER
    python benchmarks/cuda/agreement.py --smoke         # whether it runs: the CPU beside itself

Each case is computed on both devices from the same numbers and the same random draws, in float64,
where the two must agree to rounding and a wrong formula shows, and in float32, as runs compute. A
difference is the largest of a tensor relative to its largest value; of triplets, the share that
only one device has. Of steps, forward and backward, it also counts how often the host waits for the
GPU. Ends with status 1 if a case fails or differs by more than its limit.
"""

import argparse
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

import batchminer
import criteria
import datasampler
import metrics
import parameters
from benchmarks import shared
from benchmarks.cuda.sheets import Sheet, command_line, keep
from datasampler.storage import StorageSampler
from evaluation import Protocol, evaluate_embeddings, faiss_library
from language_guidance import ContrastiveGuide, LanguageGuide, SquaredGuide, TextBank
from language_guidance.similarities import BankSimilarities, Blend, MatrixSimilarities, Unrelated
from utilities import functional
from utilities.types import ModelOutput

CPU = torch.device("cpu")
DEFAULTS = parameters.parse([])
TIES = "ties"
ANY_MINER = ("distance", "semihard", "random")  # of objectives that take any
NESTED = ("s2sd", "adversarial_separation")
Numbers = list[torch.Tensor]
Step = Callable[[], Numbers]
Case = Callable[[torch.device, torch.dtype], Step]  # puts everything there, and gives the step


class Kind(NamedTuple):
    """What is compared, and how far it may differ in float64 and in float32.

    Evaluations have no float64: embeddings are float32 there. `waits` says whether it is part of a
    training step, which must not wait for the device.
    """

    title: str
    double: float | None
    single: float
    waits: bool = False


OBJECTIVE = Kind("objective", 1e-9, 2e-3, waits=True)
GUIDE = Kind("guide", 1e-9, 1e-4, waits=True)
MINER = Kind("miner", 0.0, 0.02)
SEARCH = Kind("search", None, 1e-12)
COSINE_SEARCH = Kind("search by cosine", None, 1e-5)
# Of unit vectors: equal distances are told apart by the rounding of float64, which devices have of
# their own, and here many are equal.
COSINE_TIES = Kind("search by cosine among ties", None, 5e-4)
METRIC = Kind("metric", None, 1e-9)
GEOMETRY = Kind("metric of the geometry", None, 1e-5)
CLUSTERS = Kind("metric of clusters", None, 0.05)
SAMPLER = Kind("sampler", None, 0.0)


class Size(NamedTuple):
    """Of a batch and of a split."""

    batch: int = 112
    samples_per_class: int = 4
    dim: int = 128
    features: int = 512
    images: int = 1500


SMOKE = Size(16, 4, 8, 8, 100)
SMOKE_STEP = 4  # of the cases every so many


class Difference(NamedTuple):
    """`places`: "file:line" -> how often the host waited there."""

    double: float
    single: float
    places: dict[str, int]


class CommonDraws(TorchFunctionMode):
    """Random numbers come from the CPU's generator, so that both devices get the same ones."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence = (), kwargs: Mapping | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if function in (torch.rand, torch.randn, torch.randperm) and "device" in options:
            device = options.pop("device")
            return function(*args, **options).to(device)
        return function(*args, **options)


def compare(case: Case, device: torch.device, kind: Kind) -> Difference:
    """Both devices, in the precisions that the kind of case has."""
    single, step = difference_of(case, device, torch.float32)
    places = waiting_places(step) if kind.waits and device.type == "cuda" else {}
    double = 0.0
    if kind.double is not None:
        double, _ = difference_of(case, device, torch.float64)
    return Difference(double, single, places)


def difference_of(case: Case, device: torch.device, dtype: torch.dtype) -> tuple[float, Step]:
    """The largest of all results, and the step on the device."""
    results = []
    for place in (CPU, device):
        with CommonDraws(), masked_everywhere():
            torch.manual_seed(0)
            step = case(place, dtype)
            torch.manual_seed(1)
            results.append(step())
    return max(itertools.starmap(difference, zip(*results, strict=True))), step


@contextmanager
def masked_everywhere() -> Iterator[None]:
    """The CPU takes the masked sums that a GPU takes.

    The random miner draws otherwise for its ragged ones. That both are the same sums is held by
    the tests.
    """
    ragged_is_cheap = functional.ragged_is_cheap
    with ExitStack() as stack:
        for module in list(sys.modules.values()):
            if getattr(module, "ragged_is_cheap", None) is ragged_is_cheap:
                patched = mock.patch.object(module, "ragged_is_cheap", lambda tensor: False)
                stack.enter_context(patched)
        yield


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of results of the two devices; infinite for other shapes, and where one is not finite."""
    one, other = one.cpu(), other.cpu()
    if not one.is_floating_point():
        return share_of_one(one, other)
    if one.shape != other.shape or not bool((one.isfinite() == other.isfinite()).all()):
        return float("inf")
    scale = one.abs().max().clamp(min=1e-30) if one.numel() else 1.0
    return float((one - other).abs().max() / scale) if one.numel() else 0.0


def share_of_one(one: torch.Tensor, other: torch.Tensor) -> float:
    """The share of rows [T, ...] that only one of them has."""
    rows = {tuple(row) for row in one.tolist()}, {tuple(row) for row in other.tolist()}
    return len(rows[0] ^ rows[1]) / max(1, len(rows[0] | rows[1]))


def waiting_places(step: Step) -> dict[str, int]:
    """Where a step waits for the GPU; one before it has made what is made once."""
    step()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places: dict[str, int] = {}
    for warning in caught:
        if "synchronizing" in str(warning.message):
            file = Path(warning.filename)
            name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name
            places[f"{name}:{warning.lineno}"] = places.get(f"{name}:{warning.lineno}", 0) + 1
    return places


def labels_of(size: Size) -> torch.Tensor:
    return torch.arange(size.batch) // size.samples_per_class


def output_of(size: Size, device: torch.device, dtype: torch.dtype, nested: bool) -> ModelOutput:
    """A batch around class centres, as a network gives it, with gradients."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((size.batch, size.dim))[labels_of(size).numpy()]
    rows = centres + 1.5 * random.standard_normal((size.batch, size.dim))
    embeddings = normalize(torch.from_numpy(rows), dim=1)
    map_size = (size.batch, size.features, 7, 7) if nested else (size.batch, 1, 1, 1)
    feature_map = torch.from_numpy(random.standard_normal(map_size))
    parts = embeddings, feature_map.mean((2, 3)), feature_map
    return ModelOutput(*(part.to(device, dtype).requires_grad_() for part in parts))


def hyperparameters(kind: str, name: str, settings: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The defaults of main.py, with other settings in their places."""
    return parameters.hyperparameters(DEFAULTS, kind, name) | dict(settings)


def forms_of(kind: str, name: str) -> Iterator[dict[str, str]]:
    """The settings of each form and mode of a part."""
    flags = [f"{kind}_{name}_form", f"{kind}_{name}_mode"]
    choices = {
        flag.rpartition("_")[2]: parameters.CHOICES[flag]
        for flag in flags
        if flag in parameters.CHOICES
    }
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values))


def objectives(size: Size) -> Iterator[tuple[str, Case]]:
    """Every objective in every form, with its miners or some of all."""
    for name, criterion in criteria.REGISTRY.items():
        is_mined = "miner" in criterion.NEEDS
        miners = (criterion.MINERS or ANY_MINER) if is_mined else ("distance",)
        for settings, miner in itertools.product(forms_of("loss", name), miners):
            words = [name, *settings.values(), *([f"with {miner}"] if is_mined else [])]
            yield " ".join(words), partial(objective_step, name, settings, miner, size)
    everything = {"w": 1.0, "feat_distill": True, "feat_distill_delay": 0, "pool_aggr": True}
    yield "s2sd with all", partial(objective_step, "s2sd", everything, "distance", size)


def objective_step(
    name: str,
    settings: dict[str, Any],
    miner: str,
    size: Size,
    device: torch.device,
    dtype: torch.dtype,
) -> Step:
    """Loss, and gradients of the embeddings, what else is read, and what is learnt."""
    mining = {"form": "mc"} if settings.get("form") == "textbook_mc" else {}
    criterion = criteria.build(
        name,
        lambda asked: hyperparameters("loss", asked, settings if asked == name else {}),
        n_classes=size.batch,
        embed_dim=size.dim,
        feature_dim=size.features,
        miner=batchminer.select(miner, **hyperparameters("miner", miner, mining)),
    ).to(device, dtype)
    output = output_of(size, device, dtype, nested=name in NESTED)
    labels = labels_of(size).to(device)
    return partial(loss_and_gradients, criterion, (output, labels), output)


def loss_and_gradients(part: nn.Module, arguments: tuple, output: ModelOutput) -> Numbers:
    leaves = [*output, *part.parameters()]
    for leaf in leaves:
        leaf.grad = None
    loss = part(*arguments)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def guides(size: Size) -> Iterator[tuple[str, Case]]:
    """Every guide, and the paper's with every source."""
    classes = size.batch // size.samples_per_class
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(60, 32, generator=random)
    assignment = torch.randint(60, (classes, 5), generator=random)
    by_image = torch.randint(60, (size.batch, 5), generator=random)
    shares = torch.rand(classes, 5, generator=random).softmax(1)
    bank = TextBank(vectors, assignment)
    makers: dict[str, Callable[[], nn.Module]] = {
        "backward": lambda: LanguageGuide(bank),
        "forward": lambda: LanguageGuide(bank, direction="forward", temperature=0.5),
        "by image": lambda: LanguageGuide(TextBank(vectors, by_image, by_image=True)),
        "shares": lambda: LanguageGuide(TextBank(vectors, assignment, shares=shares)),
        "matrix": lambda: LanguageGuide(MatrixSimilarities(torch.eye(classes))),
        "unrelated": lambda: LanguageGuide(Unrelated()),
        "blend": lambda: LanguageGuide(
            Blend([BankSimilarities(bank), BankSimilarities(bank)], [0.3, 0.7])
        ),
        "rising": lambda: LanguageGuide(bank, rise=5),
        "squared": lambda: SquaredGuide(bank),
        "contrastive": lambda: ContrastiveGuide(bank, embed_dim=size.dim),
    }
    for name, make in makers.items():
        yield name, partial(guide_step, make, size)


def guide_step(
    make: Callable[[], nn.Module], size: Size, device: torch.device, dtype: torch.dtype
) -> Step:
    guide = make().to(device, dtype)
    output = output_of(size, device, dtype, nested=False)
    indices = torch.arange(size.batch, device=device)
    arguments = output.embeddings, labels_of(size).to(device), indices
    return partial(loss_and_gradients, guide, arguments, output)


def miners(size: Size) -> Iterator[tuple[str, Case]]:
    """Every miner in every form: its triplets."""
    for name in batchminer.REGISTRY:
        for settings in forms_of("miner", name):
            yield (
                " ".join([name, *settings.values()]),
                partial(miner_step, name, settings, size),
            )


def miner_step(
    name: str, settings: dict[str, Any], size: Size, device: torch.device, dtype: torch.dtype
) -> Step:
    miner = batchminer.select(name, **hyperparameters("miner", name, settings))
    embeddings = output_of(size, device, dtype, nested=False).embeddings.detach()
    labels = labels_of(size).to(device)
    return lambda: [miner(embeddings, labels)]


def split_of(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [N, D] float32 and labels [N], 20 images of a class."""
    random = np.random.default_rng(1)
    labels = np.arange(size.images) % max(2, size.images // 20)
    centres = random.standard_normal((labels.max() + 1, size.dim))
    rows = centres[labels] + 2 * random.standard_normal((size.images, size.dim))
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels)


def spaces_of(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Spaces in which neighbours are hard to tell apart."""
    return {
        "usual": rows,
        "unit vectors": normalize(rows, dim=1),
        TIES: (rows[:, :4] * 2).round(),
        "duplicates": rows[torch.arange(len(rows)) // 3],
        "collapsed": rows[:1] + 1e-6 * rows,
        "equal": rows[:1].repeat(len(rows), 1),
        "far from the origin": rows + 1e4,
    }


def searches(
    size: Size, names: list[str], which: Callable[[str], bool] = lambda space: True
) -> Iterator[tuple[str, Case]]:
    """By torch and by faiss, in some of the spaces or all."""
    rows, labels = split_of(size)
    spaces = {space: found for space, found in spaces_of(rows).items() if which(space)}
    backends = ["torch"] if faiss_library.library() is None else ["torch", "faiss"]
    for (space, embeddings), backend in itertools.product(spaces.items(), backends):
        # faiss lists neighbours, which for mAP would be the whole gallery.
        wanted = [name for name in names if name != "mAP" or backend == "torch"]
        case = partial(evaluation_step, embeddings, Protocol(labels), wanted, backend)
        yield f"{space}, {backend}", case


def metrics_of(size: Size, clusters: bool, geometry: bool) -> Iterator[tuple[str, Case]]:
    """Every metric, of queries and gallery that are one split."""
    rows, labels = split_of(size)
    protocol = Protocol(labels, superclasses=labels // 3)
    patterns = [
        metric.name
        for metric in metrics.REGISTRY.values()
        if metric.clusters == clusters and (metric.depth == 0 and not metric.clusters) == geometry
    ]
    for pattern in patterns:
        for name in numbered(pattern):
            yield name, partial(evaluation_step, rows, protocol, [name], "torch")


def numbered(pattern: str) -> list[str]:
    """Names that a name of the registry stands for."""
    if "@M" in pattern:
        return [pattern.replace("@M", f"@{mode}") for mode in (1, 2, 10)]
    if "@K" in pattern:
        return [pattern.replace("@K", f"@{rank}") for rank in (1, 10)]
    return [pattern]


def evaluation_step(
    rows: torch.Tensor,
    protocol: Protocol,
    names: list[str],
    backend: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Step:
    """Values of the metrics; embeddings are float32 in an evaluation, whatever the dtype."""
    embeddings = rows.to(device)
    classes = int(protocol.labels.max()) + 1
    texts = normalize(torch.randn(classes, 16, generator=torch.Generator().manual_seed(0)), dim=1)

    def step() -> Numbers:
        values = evaluate_embeddings(
            embeddings,
            protocol,
            names,
            backend=backend,
            memory=2**28,
            text_vectors=texts.to(device),
        )
        return [torch.tensor([values[name] for name in names], dtype=torch.float64)]

    return step


def samplers(size: Size) -> Iterator[tuple[str, Case]]:
    """The batches of every sampler that chooses by embeddings."""
    for name, sampler in datasampler.REGISTRY.items():
        if issubclass(sampler, StorageSampler):
            yield name, partial(sampler_step, name, size)


def sampler_step(name: str, size: Size, device: torch.device, dtype: torch.dtype) -> Step:
    rows, labels = split_of(size)
    sampler = datasampler.select(
        name,
        labels.numpy(),
        batch_size=size.batch,
        samples_per_class=size.samples_per_class,
        seed=0,
        pool_size=2 * size.batch,
        candidates=5,
    )
    assert isinstance(sampler, StorageSampler)
    sampler.refresh(rows.to(device, dtype))
    return lambda: [torch.tensor(list(itertools.islice(sampler, 2)))]


def cases(size: Size) -> Iterator[tuple[Kind, str, Case]]:
    """All of them."""
    by_cosine = ["c_recall@1", "c_mAP@R"]
    sources = [
        (OBJECTIVE, objectives(size)),
        (MINER, miners(size)),
        (GUIDE, guides(size)),
        (SEARCH, searches(size, ["e_recall@1", "e_recall@10", "mAP@R", "mAP_1000", "mAP"])),
        (COSINE_SEARCH, searches(size, by_cosine, lambda space: space != TIES)),
        (COSINE_TIES, searches(size, by_cosine, lambda space: space == TIES)),
        (METRIC, metrics_of(size, clusters=False, geometry=False)),
        (GEOMETRY, metrics_of(size, clusters=False, geometry=True)),
        (CLUSTERS, metrics_of(size, clusters=True, geometry=False)),
        (SAMPLER, samplers(size)),
    ]
    for kind, named_cases in sources:
        for name, case in named_cases:
            yield kind, name, case


class Finding(NamedTuple):
    """Of a case; `problem` is what is wrong with it."""

    kind: Kind
    name: str
    difference: Difference | None
    problem: str = ""


def examine(kind: Kind, name: str, case: Case, device: torch.device) -> Finding:
    try:
        found = compare(case, device, kind)
    except Exception as error:  # whatever a device refuses is a finding, and the next case follows
        return Finding(kind, name, None, f"{type(error).__name__}: {shared.last_line(str(error))}")
    problem = ""
    is_exact = kind.double is None or found.double <= kind.double
    if not (is_exact and found.single <= kind.single):
        problem = f"differs by {found.double:.1e} and {found.single:.1e}"
    return Finding(kind, name, found, problem)


def summary(findings: list[Finding]) -> Sheet:
    """A row for each kind."""
    rows = []
    for kind in dict.fromkeys(finding.kind for finding in findings):
        mine = [finding for finding in findings if finding.kind == kind]
        measured = [finding.difference for finding in mine if finding.difference]
        waiting = sum(bool(found.places) for found in measured)
        has_double = measured and kind.double is not None
        rows.append(
            (
                kind.title,
                str(len(mine)),
                str(sum(bool(finding.problem) for finding in mine)),
                f"{max(found.double for found in measured):.1e}" if has_double else "-",
                f"{max(found.single for found in measured):.1e}" if measured else "-",
                str(waiting) if kind.waits else "-",
            )
        )
    header = ("", "cases", "not agreeing", "most in float64", "most in float32", "cases that wait")
    return Sheet("CPU against GPU", header, rows, notes(findings))


def notes(findings: list[Finding]) -> list[str]:
    """What does not agree, and what waits where."""
    lines = [
        f"- {finding.kind.title} {finding.name}: {finding.problem}"
        for finding in findings
        if finding.problem
    ]
    waits = []
    for finding in findings:
        if finding.difference and finding.difference.places:
            places = ", ".join(f"{place} x{n}" for place, n in finding.difference.places.items())
            waits.append(f"- {finding.kind.title} {finding.name}: {places}")
    problems = "\n".join(["Not agreeing:", *lines]) if lines else "All agree."
    return [problems] + (["\n".join(["Steps that wait for the GPU:", *waits])] if waits else [])


def read_command_line() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    return parser.parse_args()


def main() -> int:
    options = read_command_line()
    size, device = (SMOKE, CPU) if options.smoke else (Size(), options.device)
    chosen = itertools.islice(cases(size), 0, None, SMOKE_STEP if options.smoke else 1)
    findings: list[Finding] = []
    for _, of_kind in itertools.groupby(chosen, key=lambda case: case[0]):
        findings += [examine(kind, name, case, device) for kind, name, case in of_kind]
        keep(options.results, "agreement", [summary(findings)])  # what there is, if it is stopped
    return int(any(finding.problem for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
