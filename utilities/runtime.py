"""Where and how this process computes: device, number format, layout, place among others."""

import ctypes
import logging
import os
from dataclasses import dataclass

import torch

from utilities import cores, memory
from utilities.errors import UserError
from utilities.types import Batch, PixelBatch

LOG = logging.getLogger(__name__)
UNITS = {"MB": 2**20, "GB": 2**30}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU = torch.device("cpu")
# Parameters of glibc's mallopt, each with the variable by which people set it themselves: from
# which size on a block is asked of the system, and how much free memory goes back to it.
ALLOCATION = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
NEVER = 2**31 - 1  # bytes


@dataclass(frozen=True)
class Runtime:
    """
    Attributes:
        device: of the network and of what it is fed. precision: of DTYPES, for the network's
            forward pass; losses and similarities are always at least fp32.
        channels_last: memory layout of images and of the network's weights.
        rank, world_size: this process among all that share each batch; alone by default.
    """

    device: torch.device = CPU
    precision: str = "fp32"
    channels_last: bool = False
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files, logs and prints."""
        return self.rank == 0

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def place(self, batch: Batch | PixelBatch) -> Batch:
        """The batch on the device, in its layout."""
        return batch.to(self.device, self.channels_last)

    def autocast(self) -> torch.autocast:
        """The mixed-precision context of the network; a no-op for fp32."""
        is_mixed = self.precision != "fp32"
        dtype = DTYPES[self.precision] if is_mixed else None
        return torch.autocast(self.device.type, dtype=dtype, enabled=is_mixed)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; otherwise it passes everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows [b, ...] of each process, one rank after the other: [world_size * b, ...].

        The gradient of a row is the sum of those that all processes' losses give it.
        """
        if self.world_size == 1:
            return rows
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(rows.contiguous()))

    def describe(self) -> str:
        """The device by its name, with the threads of a CPU, and the number format."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"CPU ({torch.get_num_threads()} threads), {self.precision}"


def select_device(device: str, gpu: list[int]) -> torch.device:
    """`auto` takes GPU `gpu[0]` where there is one and the CPU with a notice where not.

    Raises UserError for an absent GPU.
    """
    if device == "cpu":
        return CPU
    if not torch.cuda.is_available():
        if device == "cuda":
            raise UserError(
                "--device cuda: this machine has no CUDA GPU that torch can use; drop the flag or "
                "use --device cpu."
            )
        LOG.info("No CUDA GPU found: running on the CPU.")
        return CPU
    if gpu[0] not in range(torch.cuda.device_count()):
        raise UserError(
            f"--gpu {gpu[0]}: this machine has GPUs 0 to {torch.cuda.device_count() - 1}."
        )
    if len(gpu) > 1:
        LOG.info("--gpu %s: a run uses one GPU, here %d.", " ".join(map(str, gpu)), gpu[0])
    torch.cuda.set_device(gpu[0])
    return torch.device("cuda", gpu[0])


def use_own_cores() -> None:
    """No more threads than this process has cores, which the quota of a container says.

    torch looks at the machine and the affinity alone, and more threads wait for each other.
    """
    torch.set_num_threads(min(torch.get_num_threads(), cores.usable()))


def keep_freed_memory() -> None:
    """Memory of large tensors is used again, where glibc would return it to the system at once.

    The system clears each page anew, which on a CPU costs more than what is computed in it. Where
    the environment says otherwise, or with another C library, nothing changes.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    for variable, parameter in ALLOCATION.items():
        if set_parameter and variable not in os.environ:
            set_parameter(parameter, NEVER)


def require_one_process() -> None:
    """Raises UserError under torchrun: each of its processes would train the same run."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise UserError(
            f"a run of several processes (WORLD_SIZE={processes} in the environment, as torchrun "
            "sets it) is not supported; start one with python main.py."
        )


def memory_budget(size: str, device: torch.device) -> int:
    """Bytes of a size such as 256MB or 4GB; `auto` is half of what is free on the device."""
    if size != "auto":
        return int(size[:-2]) * UNITS[size[-2:]]
    return _free_memory(device) // 2


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.free()
