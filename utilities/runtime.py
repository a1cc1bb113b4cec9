"""Where and how this process computes: device, number format, layout, place among others.

Nothing here, or elsewhere in the program, looks for a GPU before `select_device` was asked for one:
work on the CPU makes no CUDA context.
"""

import ctypes
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from utilities import memory, processes, seeding
from utilities.errors import UserError, reason
from utilities.processes import Part, Place
from utilities.types import Batch, PixelBatch

LOG = logging.getLogger(__name__)
UNITS = {"MB": 2**20, "GB": 2**30}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU = torch.device("cpu")
ALONE = Place()
# Parameters of glibc's mallopt, each with the variable by which people set it themselves: from
# which size on a block is asked of the system, and how much free memory goes back to it.
ALLOCATION = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
NEVER = 2**31 - 1  # bytes


@dataclass(frozen=True)
class Runtime:
    """
    Attributes:
        device: of the network and of what it is fed. precision: of DTYPES, for the network's
            forward pass; losses and similarities are always at least fp32 (see `autocast`).
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

    @property
    def pins_batches(self) -> bool:
        """Whether batches are read into pinned memory, from which a GPU copies while it works."""
        return self.device.type == "cuda"

    def place(self, batch: Batch | PixelBatch) -> Batch:
        """The batch on the device, in its layout."""
        return batch.to(self.device, self.channels_last)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The number format of the network's forward pass.

        On a GPU, fp32 makes matrix products inside in TF32. Convolutions are so in both directions,
        which is torch's default for cuDNN. The backward pass of products keeps full fp32, because
        it runs outside, in one call with that of losses and similarities.
        """
        is_mixed = self.precision != "fp32"
        dtype = DTYPES[self.precision] if is_mixed else None
        has_tf32 = self.device.type == "cuda" and not is_mixed
        products = _tf32_products() if has_tf32 else nullcontext()
        with torch.autocast(self.device.type, dtype=dtype, enabled=is_mixed), products:
            yield

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; otherwise it passes everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    @property
    def part(self) -> Part:
        """The share of this process in each batch, and in each pass over a split."""
        return Part(self.rank, self.world_size)

    def gather(self, rows: torch.Tensor, total: int) -> torch.Tensor:
        """The rows [b, ...] of each process in the order of the batch: [total, ...].

        A process's own rows keep their graph. Each goes back through the same loss of all rows, and
        `add_up` makes of the gradients behind its own those of the whole batch.
        """
        return processes.gathered(rows, total)

    def add_up(self, summed: Sequence[torch.Tensor], of_main: Sequence[torch.Tensor] = ()) -> None:
        """Sums over all processes, and what all have alike: see `processes.add_up`."""
        processes.add_up(summed, of_main)

    @contextmanager
    def own_draws(self, seed: int) -> Iterator[None]:
        """What is drawn inside differs between processes and leaves no trace behind it.

        A network draws for its share of a batch; miners, which draw for all of it, must find the
        same numbers in every process. One process draws as it comes.
        """
        if self.world_size == 1:
            yield
            return
        before = seeding.streams(self.device)
        seeding.seed_streams(seeding.derive(seed, self.rank), self.device)
        try:
            yield
        finally:
            seeding.go_to(before, self.device)

    def describe(self) -> str:
        """The device by its name, with the threads of a CPU, the number format and the layout."""
        threads = torch.get_num_threads()
        where = f"CPU ({threads} {'thread' if threads == 1 else 'threads'})"
        if self.device.type == "cuda":
            where = torch.cuda.get_device_name(self.device)
        layout = ", channels_last" if self.channels_last else ""
        several = f", one of {self.world_size} processes" if self.world_size > 1 else ""
        return f"{where}, {self.precision}{layout}{several}"


@contextmanager
def _tf32_products() -> Iterator[None]:
    """Products of fp32 matrices on GPUs are made in TF32 by the process, where a GPU has that."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before


def select_precision(precision: str, device: torch.device) -> str:
    """`auto` takes bf16 on a GPU that computes with it, and fp32 elsewhere."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device) else "fp32"


def is_channels_last(memory_format: str, device: torch.device) -> bool:
    """`auto` takes channels_last on the GPUs that have bf16, and contiguous elsewhere.

    Older ones, without TF32 too, are slower with it in fp32.
    """
    return _has_bf16(device) if memory_format == "auto" else memory_format == "channels_last"


def _has_bf16(device: torch.device) -> bool:
    """Whether it is a GPU that computes in bf16 itself, without emulation: Ampere or later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def select_device(device: str, gpu: list[int], place: Place = ALONE) -> torch.device:
    """`auto` takes GPU `gpu[0]` where there is one and the CPU with a notice where not.

    Each of several processes of a machine takes one: those of `gpu` in turn, or from the first on.
    Raises UserError for an absent GPU.
    """
    if device == "cpu":
        return CPU
    # What torch warns of, such as a driver that is too old, is said in our sentence.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if not is_available:
        why = _without_gpu([str(warning.message) for warning in told])
        if device == "cuda":
            raise UserError(
                f"--device cuda: this machine has no CUDA GPU that torch can use{why}; drop the "
                "flag or use --device cpu."
            )
        LOG.info("No CUDA GPU found%s: running on the CPU.", why)
        return CPU
    chosen = _own_gpu(gpu, place)
    if chosen not in range(torch.cuda.device_count()):
        each = f", and each of {place.local_world_size} processes needs one"
        raise UserError(
            f"--gpu {chosen}: this machine has GPUs 0 to {torch.cuda.device_count() - 1}"
            f"{each if place.local_world_size > 1 else ''}."
        )
    if place.local_world_size == 1 and len(gpu) > 1:
        LOG.info("--gpu %s: a run uses one GPU, here %d.", " ".join(map(str, gpu)), chosen)
    return _begun(chosen)


def _own_gpu(gpu: list[int], place: Place) -> int:
    """Raises UserError for another number of GPUs than of processes."""
    if place.local_world_size == 1:
        return gpu[0]
    chosen = list(dict.fromkeys(gpu))
    if len(chosen) not in (1, place.local_world_size):
        raise UserError(
            f"--gpu {' '.join(map(str, gpu))}: {place.local_world_size} processes on this machine "
            "need as many GPUs; or give the first of them alone."
        )
    return chosen[place.local_rank] if len(chosen) > 1 else chosen[0] + place.local_rank


def _without_gpu(told: list[str]) -> str:
    """Why torch finds none, in brackets, as far as it can be known."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return " (CUDA_VISIBLE_DEVICES hides them all)"
    if torch.version.cuda is None and torch.version.hip is None:
        return " (this torch is built for the CPU alone)"
    return f" ({reason(told[0])})" if told else ""


def _begun(gpu: int) -> torch.device:
    """The GPU with its CUDA context, which is made here and nowhere else.

    Raises UserError where it cannot be made.
    """
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_device(gpu)
            torch.cuda.init()
    except RuntimeError as error:  # a driver that does not fit, or a GPU that others keep
        raise UserError(
            f"--gpu {gpu}: this GPU cannot be used ({reason(error)}); --device cpu does without."
        ) from error
    for warning in told:  # of a GPU that this torch was not built for
        LOG.warning("--gpu %d: %s", gpu, reason(warning.message))
    return torch.device("cuda", gpu)


def hide_gpus() -> None:
    """No library of this process, nor of those that it starts, finds a GPU from here on.

    Otherwise torch's own optimisers make a CUDA context on a machine that has one: they ask whether
    it captures their step, wherever their weights are. It is too late once somebody has looked.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def use_own_cores() -> None:
    """No more threads than this process has cores, which the quota of a container says.

    torch looks at the machine and the affinity alone, and more threads wait for each other.
    """
    processes.use_own_cores()


def keep_freed_memory() -> None:
    """Memory of large tensors is used again, where glibc would return it to the system at once.

    The system clears each page anew, which on a CPU costs more than what is computed in it. Where
    the environment says otherwise, or with another C library, nothing changes.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    for variable, parameter in ALLOCATION.items():
        if set_parameter and variable not in os.environ:
            set_parameter(parameter, NEVER)


def memory_budget(size: str, device: torch.device) -> int:
    """Bytes of a size such as 256MB or 4GB; `auto` is half of what is free on the device.

    Processes that compute on the CPU of a machine share them.
    """
    is_given = size != "auto"
    whole = int(size[:-2]) * UNITS[size[-2:]] if is_given else _free_memory(device) // 2
    return whole // processes.on_machine() if device.type == "cpu" else whole


def _free_memory(device: torch.device) -> int:
    """Bytes; of a GPU with what torch keeps in reserve, which the driver counts as taken."""
    if device.type != "cuda":
        return memory.free()
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve
