"""k-means by faiss and by torch."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from evaluation import clustering, faiss_library
from utilities.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(params=["faiss", "torch", "auto without faiss"])
def backend(request, monkeypatch) -> str:
    name = request.param.split()[0]
    if name == "auto":
        monkeypatch.setattr(faiss_library, "library", lambda: None)
    return name


def random_rows(count: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def blobs(classes: int = 4, each: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(classes).repeat(each)
    return 20 * torch.eye(classes)[labels] + 0.01 * random_rows(len(labels), classes), labels


def inertia(rows: torch.Tensor, assignment: torch.Tensor) -> float:
    """The sum of squared distances to the mean of the cluster, of each that has rows."""
    total = 0.0
    for name in assignment.unique():
        members = rows[assignment == name].double()
        total += (members - members.mean(0)).square().sum().item()
    return total


def test_clusters_are_deterministic_and_leave_the_global_streams(backend):
    rows, before = random_rows(80), torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    first = clustering.cluster(rows, 6, seed=3, backend=backend)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()
    torch.manual_seed(9)
    np.random.seed(9)
    assert torch.equal(first, clustering.cluster(rows, 6, seed=3, backend=backend))
    assert first.shape == (80,) and first.dtype == torch.long
    assert set(first.tolist()) <= set(range(6))
    assert not torch.equal(first, clustering.cluster(rows, 6, seed=4, backend=backend))


def test_clusters_of_two_far_blobs(backend):
    rows, labels = blobs(2)
    found = clustering.cluster(rows, 2, seed=0, backend=backend)
    assert len({(label, cluster) for label, cluster in zip(labels.tolist(), found.tolist())}) == 2


def test_as_many_clusters_as_rows(backend):
    assert len(clustering.cluster(random_rows(5), 5, seed=0, backend=backend)) == 5


def test_auto_clusters_with_faiss_where_it_is_installed(monkeypatch):
    rows = random_rows(200)
    by_faiss = faiss_library.kmeans(rows, 20, seed=3, iterations=clustering.ITERATIONS)
    assert torch.equal(clustering.cluster(rows, 20, seed=3, backend="auto"), by_faiss)
    by_torch = clustering.lloyd(rows, 20, seed=3)
    assert torch.equal(clustering.cluster(rows, 20, seed=3, backend="torch"), by_torch)
    monkeypatch.setattr(faiss_library, "library", lambda: None)
    assert torch.equal(clustering.cluster(rows, 20, seed=3, backend="auto"), by_torch)


def test_what_searches_and_what_clusters(monkeypatch):
    def named() -> dict[str, tuple[str, str]]:
        return {
            backend: (
                faiss_library.searches_with(backend, CPU),
                faiss_library.clusters_with(backend, CPU),
            )
            for backend in ("auto", "torch", "faiss")
        }

    assert named() == {
        "auto": ("torch", "faiss"),
        "torch": ("torch", "torch"),
        "faiss": ("faiss", "faiss"),
    }
    monkeypatch.setattr(faiss_library, "library", lambda: None)
    assert faiss_library.clusters_with("auto", CPU) == "torch"
    for ask in (faiss_library.searches_with, faiss_library.clusters_with):
        with pytest.raises(UserError, match="pip install faiss"):
            ask("faiss", CPU)


@pytest.mark.parametrize("has_kernels, name", [(False, "torch"), (True, "faiss-gpu")])
def test_auto_does_not_leave_a_gpu_to_cluster(monkeypatch, has_kernels, name):
    monkeypatch.setattr(faiss_library, "is_on_gpu", lambda device: has_kernels)
    gpu = torch.device("cuda")
    assert faiss_library.clusters_with("auto", gpu) == name
    assert faiss_library.clusters_with("torch", gpu) == "torch"
    assert faiss_library.clusters_with("faiss", gpu) == faiss_library.name_on(gpu)


def assign_all(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((rows[:, None] - centroids[None]) ** 2).sum(2).argmin(1)


@pytest.mark.parametrize("shift", [0, 100])
@pytest.mark.parametrize("iterations", [0, 1, 3, 20])
def test_lloyd_against_numpy_in_float64(iterations, shift):
    rows = random_rows(150, 4) + shift
    order = torch.randperm(150, generator=torch.Generator().manual_seed(2))
    numbers = rows.double().numpy()
    expected = assign_all(numbers, numbers[order[:7].numpy()])
    for _ in range(iterations):
        means = [numbers[expected == name].mean(0) for name in range(7)]
        expected = assign_all(numbers, np.array(means))
    found = clustering.lloyd(rows, 7, seed=2, iterations=iterations)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("numbers", [1, 100, 5000])
def test_blocks_give_the_same(monkeypatch, numbers):
    rows = random_rows(300, 16)
    whole = clustering.lloyd(rows, 40, seed=1)
    monkeypatch.setattr(clustering, "NUMBERS_AT_ONCE", numbers)
    assert torch.equal(clustering.lloyd(rows, 40, seed=1), whole)


def test_an_empty_cluster_starts_again_at_a_far_row():
    """Most starts are copies of one row, which fill one cluster; the other rows are far apart."""
    rows = torch.cat([torch.zeros(200, 5), blobs(5, each=1)[0]])
    for seed in range(10):
        found = clustering.lloyd(rows, 6, seed=seed)
        assert len(found.unique()) == 6 and len(found[:200].unique()) == 1


@pytest.mark.parametrize("clusters", [1, 3, 12])
def test_fewer_different_rows_than_clusters(clusters):
    rows = random_rows(3).repeat(4, 1)
    found = clustering.lloyd(rows, clusters, seed=0)
    assert len(found.unique()) == min(clusters, 3)
    for first, second in itertools.combinations(range(12), 2):
        assert first % 3 != second % 3 or found[first] == found[second]


SPLITS = {
    "few classes": (500, 10, 8, 0.5),
    "like CUB-200": (2000, 100, 32, 1.5),
    "small classes": (1500, 300, 64, 1.0),
    "no classes to be seen": (2000, 50, 16, 3.0),
    "three images a class": (600, 200, 8, 0.3),
}


@pytest.mark.parametrize("split", SPLITS)
def test_clusters_by_torch_are_as_good_as_those_by_faiss_and_scikit_learn(split):
    """Means over five seeds: inertia within 6 % and NMI within 0.02."""
    count, classes, dim, noise = SPLITS[split]
    labels = torch.arange(count) % classes
    rows = random_rows(classes, dim)[labels] + noise * random_rows(count, dim, seed=1)
    rows = torch.nn.functional.normalize(rows, dim=1)

    def by_scikit_learn(seed: int) -> torch.Tensor:
        means = KMeans(classes, init="random", n_init=1, max_iter=20, random_state=seed)
        return torch.from_numpy(means.fit_predict(rows.numpy())).long()

    def quality(cluster) -> np.ndarray:
        found = [cluster(seed) for seed in range(5)]
        inertias = [inertia(rows, assignment) for assignment in found]
        agreements = [normalized_mutual_info_score(labels, assignment) for assignment in found]
        return np.mean([inertias, agreements], axis=1)

    ours = quality(lambda seed: clustering.cluster(rows, classes, seed=seed, backend="torch"))
    for reference in (
        quality(lambda seed: clustering.cluster(rows, classes, seed=seed, backend="faiss")),
        quality(by_scikit_learn),
    ):
        assert ours[0] < 1.06 * reference[0]
        assert ours[1] > reference[1] - 0.02
