"""The device of a run and its number formats."""

import logging

import torch

from utilities.errors import UserError

LOG = logging.getLogger(__name__)
UNKNOWN_MEMORY = 4 * 2**30  # where the system does not tell
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select(device: str, gpu: list[int]) -> torch.device:
    """`auto` takes GPU `gpu[0]` where there is one and the CPU with a notice where not; raises UserError for an absent GPU."""
    if device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if device == "cuda":
            raise UserError(
                "--device cuda: this machine has no CUDA GPU that torch can use; drop the flag or use --device cpu."
            )
        LOG.info("No CUDA GPU found: running on the CPU.")
        return torch.device("cpu")
    if gpu[0] not in range(torch.cuda.device_count()):
        raise UserError(
            f"--gpu {gpu[0]}: this machine has GPUs 0 to {torch.cuda.device_count() - 1}."
        )
    if len(gpu) > 1:
        LOG.info("--gpu %s: a run uses one GPU, here %d.", " ".join(map(str, gpu)), gpu[0])
    torch.cuda.set_device(gpu[0])
    return torch.device("cuda", gpu[0])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The mixed-precision context of the network; a no-op for fp32."""
    return torch.autocast(
        device.type,
        dtype=DTYPES[precision] if precision != "fp32" else None,
        enabled=precision != "fp32",
    )


def gradient_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Loss scaling, which only fp16 needs; otherwise it passes everything through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def describe(device: torch.device) -> str:
    """The device by its name, with the threads of a CPU."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU ({torch.get_num_threads()} threads)"
    )


def memory(size: str, device: torch.device) -> int:
    """Bytes of a size such as 256MB or 4GB; `auto` is half of what is free on the device."""
    if size != "auto":
        return int(size[:-2]) * {"MB": 2**20, "GB": 2**30}[size[-2:]]
    return _free_memory(device) // 2


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open(
            "/proc/meminfo"
        ) as file:  # counts what caches would give back, which sysconf does not
            return next(
                int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable")
            )
    except (OSError, StopIteration):
        return UNKNOWN_MEMORY
