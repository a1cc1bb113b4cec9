"""What processes say to each other, as one of several."""

import os
import time
from pathlib import Path

import torch
from torch import nn

from evaluation import Protocol, evaluate_embeddings
from evaluation.embedding import embed
from language_guidance.pseudolabels import classify
from utilities import processes, seeding, signals
from utilities.errors import UserError
from utilities.processes import Part
from utilities.runtime import CPU, Runtime, memory_budget
from utilities.types import Batch, ModelOutput

ROWS = torch.arange(14, dtype=torch.float64).reshape(7, 2)
WEIGHTS = torch.linspace(-1, 1, 14, dtype=torch.float64).reshape(7, 2)
# Two batches, which are fewer than the processes, in another order than that of the split.
BATCHES = [
    Batch(
        torch.arange(12 * rows).reshape(rows, 3, 2, 2) / 7,
        torch.zeros(rows, dtype=torch.long),
        places,
    )
    for rows, places in ((3, torch.tensor([4, 0, 2])), (2, torch.tensor([1, 3])))
]
# Metrics of every space in which neighbours are searched, and of the split as a whole.
MEASURED = [
    *("e_recall@1", "mAP@R", "c_mAP_1000", "aqe_mAP@R", "alphaqe_mAP@R", "rerank_mAP@R"),
    *("c_nmi", "mistake_severity"),
]
Found = dict[str, object]


class Pixels(nn.Module):
    """Embeds an image as its pixels."""

    def forward(self, images: torch.Tensor) -> ModelOutput:
        return ModelOutput(images.flatten(1), images.mean((2, 3)), images)


def loss(rows: torch.Tensor) -> torch.Tensor:
    return (rows * WEIGHTS).sum(1).square().sum()


def exchange(folder: Path) -> None:
    """Write what this process found, by the names of what it did."""
    place = processes.place()
    processes.join(place)
    runtime = Runtime(rank=place.rank, world_size=place.world_size)
    found: Found = {}
    for ask in (gathered, sums, asked_of_main, differences, draws, passes, searches):
        found |= ask(runtime)
    processes.leave()
    found["left"] = tuple(processes.joined())
    torch.save(found, folder / f"{place.rank}.pt")


def gathered(runtime: Runtime) -> Found:
    """Rows of 7, which no two or three processes share evenly; bf16 too."""
    share = ROWS[runtime.part.rows(7)].clone().requires_grad_()
    rows = runtime.gather(share, 7)
    loss(rows).backward()
    half = runtime.gather(share.detach().bfloat16(), 7)
    return {"rows": rows.detach(), "gradient": share.grad, "half": half}


def sums(runtime: Runtime) -> Found:
    """Tensors of several types, a strided one and an empty one among them."""
    mine = float(runtime.rank + 1)
    summed = [
        torch.full((3, 2), mine, dtype=torch.float64),
        torch.full((2, 4), mine).T,
        torch.full((), runtime.rank, dtype=torch.long),
        torch.zeros(0),
    ]
    of_main = [torch.full((5,), mine / 3), torch.full((2,), mine / 3, dtype=torch.float64)]
    runtime.add_up(summed, of_main)
    return {"summed": summed, "of_main": of_main, "largest": processes.largest([runtime.rank, 1])}


def asked_of_main(runtime: Runtime) -> Found:
    """What the first process computes, where what it calls asks likewise."""

    def compute(number: int) -> tuple[int, torch.Tensor]:
        inner = processes.from_main(lambda: runtime.rank + number)
        return inner, torch.full((2,), float(processes.largest([runtime.rank])[0]))

    done: list[int] = []
    processes.on_main(done.append, runtime.rank)
    return {"computed": processes.from_main(compute, 5), "done": done}


def differences(runtime: Runtime) -> Found:
    processes.require_same({"numbers": 1, "files": ("a", "b")}, "look at them")
    try:
        processes.require_same({"numbers": 1, "rank": runtime.rank}, "look at them")
    except UserError as error:
        return {"differs": str(error)}
    return {"differs": ""}


def draws(runtime: Runtime) -> Found:
    """Of a network, which differ, and of a miner behind it, which do not."""
    torch.manual_seed(4)
    before = seeding.streams(CPU)[0]
    with runtime.own_draws(7):
        own = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    return {"own": own, "common": torch.rand(3), "part": tuple(Part(runtime.rank, 3))}


def passes(runtime: Runtime) -> Found:
    """Over a split of five images."""
    own, evaltypes = BATCHES[runtime.part.rows(len(BATCHES))], ["embeds", "avg_features"]
    embeddings = embed(Pixels(), own, count=5, evaltypes=evaltypes, runtime=runtime)
    return {**embeddings, "logits": classify(nn.Flatten(), own, count=5, device=CPU)}


def searches(runtime: Runtime) -> Found:
    """In 40 rows of noise, of all and of two queries, which are fewer than the processes."""
    random = torch.Generator().manual_seed(3)
    embeddings = torch.randn(40, 6, generator=random)
    labels = torch.arange(40) % 5
    texts = torch.eye(5)
    few = Protocol(labels, queries=torch.tensor([3, 30]), gallery=torch.arange(2, 38))

    def measured(protocol: Protocol) -> dict[str, float]:
        return evaluate_embeddings(embeddings, protocol, MEASURED, text_vectors=texts)

    return {
        "of all": measured(Protocol(labels)),
        "of two": measured(few),
        "of main": processes.from_main(measured, few),
        "mine": list(range(*processes.part().rows(40).indices(40))),
        "on machine": (processes.on_machine(), processes.from_main(processes.on_machine)),
        "memory": memory_budget("300MB", CPU),
    }


def launch_and_end(told: Path, number: int) -> None:
    """As torchrun that starts a process and gets a signal that it does not hand on.

    The process writes what has come to it.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.read(reader, 1)
        os.kill(os.getpid(), number)
    os.environ["TORCHELASTIC_RUN_ID"] = "none"
    with signals.answered():
        try:
            processes.stop_where_launcher_ends()
            os.write(writer, b"!")
            time.sleep(60)
        except signals.Stopped as stopped:
            told.with_suffix(".begun").write_text(str(stopped))
            told.with_suffix(".begun").rename(told)
    os._exit(0)
