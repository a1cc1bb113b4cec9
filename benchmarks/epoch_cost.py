"""What an epoch costs beside its floor: forward and backward over the same batches, and one embedding pass.

    python benchmarks/epoch_cost.py <flags of main.py, with guidance if it is to be measured>

The floor takes the same network, the same batches from the same loader, a sum of the embeddings as
loss, no optimiser, objective, guidance or logging; its embedding pass only calls the network. The
two are run in turn, in one process, and the medians and their ratio are printed as JSON, with the
peak memory on a GPU.
"""

import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import main  # noqa: E402
import parameters  # noqa: E402
from datasets import loading  # noqa: E402
from utilities import devices, report, seeding  # noqa: E402

ROUNDS = 3


def floor(opt, network, loader, split, device) -> None:
    """Bare forward and backward over an epoch, and a bare pass over the evaluated split."""
    network.train()
    autocast = devices.autocast(device, opt.precision)
    for batch in loading.Batches(loader, 0):
        images = batch.to(device, opt.channels_last).images
        network.zero_grad(set_to_none=True)
        with autocast:
            loss = network(images).embeddings.float().sum()
        loss.backward()
    network.eval()
    with torch.inference_mode(), autocast:
        for batch in loading.evaluation_batches(split, batch_size=opt.bs, workers=opt.kernels):
            network(batch.to(device, opt.channels_last).images)


def ours(opt, epoch, network, learner, data, loader, split, device) -> None:
    """An epoch as main.py runs it: training with objective, guidance and optimiser, then the evaluation of the test split."""
    main.train_epoch(opt, epoch, network, learner, data.sampler, loader, device)
    main.evaluate_epoch(opt, network, {"Test": split}, device)


def timed(device: torch.device, function, *arguments) -> tuple[float, float]:
    """Seconds, and GiB at the peak on a GPU (0 on a CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    function(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (
        time.perf_counter() - started,
        torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0,
    )


def measure(argv: list[str]) -> dict:
    opt = parameters.parse(argv)
    report.configure_logging()
    device = devices.select(opt.device, opt.gpu)
    seeding.seed_everything(opt.seed)
    data = main.build_data(opt)
    network, transform = main.build_network(opt, data.splits, device, load_weights=True)
    learner = main.build_learner(opt, data, network, device)
    loader = loading.training_loader(
        data.splits.training.with_transform(transform.training), data.sampler, workers=opt.kernels
    )
    split = data.splits.testing.with_transform(transform.evaluation)
    bare, whole = [], []
    for epoch in range(ROUNDS):
        data.sampler.set_epoch(epoch)
        bare.append(timed(device, floor, opt, network, loader, split, device))
        whole.append(timed(device, ours, opt, epoch, network, learner, data, loader, split, device))
    seconds = [statistics.median(time for time, _ in runs) for runs in (bare, whole)]
    return {
        "device": devices.describe(device),
        "precision": opt.precision,
        "floor_s": round(seconds[0], 2),
        "epoch_s": round(seconds[1], 2),
        "ratio": round(seconds[1] / seconds[0], 3),
        "floor_GiB": round(max(memory for _, memory in bare), 2),
        "epoch_GiB": round(max(memory for _, memory in whole), 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
