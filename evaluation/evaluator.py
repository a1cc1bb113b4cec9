"""From a network to the numbers of each split: built once in a run, run after each epoch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from evaluation.embedding import Batches, embed
from evaluation.evaluate import by_family, comparable, evaluate_embeddings
from evaluation.faiss_library import clusters_with, searches_with
from evaluation.retrieval import Protocol
from metrics import Metric
from utilities.errors import MemoryAdvice, NonFiniteLoss, short_memory_told
from utilities.runtime import CPU, Runtime, memory_budget


class EvaluatedSplit(NamedTuple):
    """
    Attributes:
        batches: every image of the split once, read anew by each evaluation.
        protocol: labels, and who searches where. text_vectors: [C, E] unit vectors of the classes'
            texts, if a metric reads them.
    """

    batches: Batches
    protocol: Protocol
    text_vectors: torch.Tensor | None = None


class SplitEvaluation(NamedTuple):
    """
    Attributes:
        values: "<evaltype>_<metric family>" -> metric name -> value.
        embeddings: evaltype -> [N, D] float32.
    """

    values: dict[str, dict[str, float]]
    embeddings: dict[str, torch.Tensor]


class Search(NamedTuple):
    """What searches and clusters, where, and in how much memory.

    Attributes:
        backend: as in `--evaluation_backend`. memory: bytes beside the embeddings, e.g. 256MB, or
            auto, half of what is free. on_cpu: on the CPU even where the network is on a GPU.
    """

    backend: str = "auto"
    memory: str = "auto"
    on_cpu: bool = False


AUTO = Search()
SHORT_OF_MEMORY = MemoryAdvice(
    host="lower --evaluation_memory",
    gpu="lower --evaluation_memory, or use --evaluate_on_cpu or --evaluation_backend torch",
)


class Evaluator:
    """`run(network)` embeds each split, searches and clusters at most once per space, and measures.

    Args:
        splits: split name -> what is evaluated.
        metrics: measured on each split and evaltype that they belong to.
        evaltypes: of `embeds` and `avg_features`.
    Raises:
        UserError: the search's backend is not installed.
    """

    def __init__(
        self,
        splits: dict[str, EvaluatedSplit],
        metrics: Sequence[Metric],
        *,
        evaltypes: list[str],
        runtime: Runtime,
        search: Search = AUTO,
    ):
        self.splits, self.metrics, self.evaltypes = splits, metrics, evaltypes
        self.runtime, self.search = runtime, search
        self.search_device = CPU if search.on_cpu else runtime.device
        searches_with(search.backend, self.search_device)  # raises where it cannot

    def run(self, network: nn.Module) -> dict[str, SplitEvaluation]:
        """Split name -> its values and embeddings.

        Raises NonFiniteLoss for a network whose embeddings are not `comparable`, and UserError
        where a search or clusters find no memory.
        """
        return {name: self._evaluate(network, name, split) for name, split in self.splits.items()}

    def describe(self) -> str:
        """What searches, and what clusters if a metric reads clusters."""
        where = (self.search.backend, self.search_device)
        clustering = any(metric.clusters for metric in self.metrics)
        clusters = f", clusters with {clusters_with(*where)}" if clustering else ""
        return f"search with {searches_with(*where)}{clusters}"

    def memory(self) -> int:
        """Bytes that a search may use now beside the embeddings."""
        return memory_budget(self.search.memory, self.search_device)

    def _evaluate(self, network: nn.Module, name: str, split: EvaluatedSplit) -> SplitEvaluation:
        embeddings = embed(
            network,
            split.batches,
            count=len(split.protocol.labels),
            evaltypes=self.evaltypes,
            runtime=self.runtime,
            keep_on=self.search_device,
            title=name,
        )
        if not all(map(comparable, embeddings.values())):
            raise NonFiniteLoss(
                f"the embeddings of the {name} split are not finite, or too large for distances, "
                "after the last step"
            )
        return SplitEvaluation(self._measure(name, split, embeddings), embeddings)

    def _measure(
        self, name: str, split: EvaluatedSplit, embeddings: dict[str, torch.Tensor]
    ) -> dict[str, dict[str, float]]:
        values: dict[str, dict[str, float]] = {}
        for evaltype, rows in embeddings.items():
            wanted = [metric for metric in self.metrics if metric.evaltype in (None, evaltype)]
            with short_memory_told(f"the evaluation of the {name} split", SHORT_OF_MEMORY):
                measured = evaluate_embeddings(
                    rows,
                    split.protocol,
                    wanted,
                    backend=self.search.backend,
                    memory=self.memory(),
                    text_vectors=split.text_vectors,
                )
            values |= by_family(evaltype, wanted, measured)
        return values
