"""Data loaders: processes read whole batches.

They name a broken image instead of showing a traceback.

The processes are forked, so that they share a split and its cache, and evaluations fork them while
the main process computes on a GPU. That is safe because nothing in them touches CUDA: they decode,
cut and hand over tensors of the CPU, and torch's seeding of a process leaves GPUs alone there. The
main process copies batches into pinned memory, in a thread of its own. Whatever of torch or faiss
lies on the GPU is inherited as a mere address: `_begin` keeps the collector off it, and a process
ends by os._exit, which destroys nothing.
"""

import gc
import logging
import mmap
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.queues
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from datasets.decoding import UNREADABLE, size_of
from datasets.images import BrokenImage, ImageSplit
from datasets.transforms import Crops
from utilities import cores, signals
from utilities.errors import UserError
from utilities.processes import WHOLE, Part
from utilities.seeding import derive
from utilities.types import Batch, PixelBatch

LOG = logging.getLogger(__name__)
SHARED_MEMORY = "/dev/shm"  # where torch puts the tensors that processes hand over
Collated = TypeVar("Collated")


class BatchSource(Protocol):
    """The rows of each batch of an epoch: a batch sampler, or a list."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[int]]: ...


def training_loader(
    split: ImageSplit,
    batches: BatchSource,
    *,
    workers: int,
    pin: bool = False,
    part: Part = WHOLE,
) -> DataLoader:
    """The sampler's batches, to be read through `Batches`, which seeds them.

    Its processes live as long as it does.

    Args:
        workers: processes that read, but no more than there are cores; 0 reads in this one.
        pin: hand over batches in pinned memory, for a GPU.
        part: of the images of each batch, where several processes share it.
    """
    return _loader(_BatchReader(split, part), batches, workers, lasting=True, pin=pin)


def evaluation_batches(
    split: ImageSplit, *, batch_size: int, workers: int, pin: bool = False, part: Part = WHOLE
) -> "Batches":
    """Every image once, in order; `workers` and `pin` as for training.

    Args:
        part: of the batches, where several processes share the pass.
    """
    batches = _InOrder(len(split), batch_size, part)
    # Lasting processes would be ended by the loader's __del__, where Python swallows a Ctrl-C.
    return Batches(_loader(_BatchReader(split), batches, workers, lasting=False, pin=pin))


class _InOrder:
    """The rows 0..count-1 in batches, of which one part is given."""

    def __init__(self, count: int, batch_size: int, part: Part):
        self.count, self.batch_size = count, batch_size
        self.numbers = range(-(-count // batch_size))[part.rows(-(-count // batch_size))]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[int]]:
        for number in self.numbers:
            first = number * self.batch_size
            yield list(range(first, min(first + self.batch_size, self.count)))


def _loader(
    reader: "_BatchReader", batches: BatchSource, workers: int, *, lasting: bool, pin: bool
) -> DataLoader:
    workers = min(workers, cores.usable())
    return DataLoader(
        reader,
        batch_size=None,
        sampler=_Requests(batches),
        collate_fn=_HandOver(workers) if workers else _as_it_is,
        generator=torch.Generator(),
        num_workers=workers,
        persistent_workers=lasting and workers > 0,
        pin_memory=pin,
        worker_init_fn=_begin,
        # Forked processes share the split and its cache.
        multiprocessing_context=_Forking() if workers else None,
    )


class _Event:
    """Shared by forked processes without a lock: one that is killed within it keeps nobody waiting.

    multiprocessing's event has one, which each loading process takes between two batches.
    """

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, 1)

    def is_set(self) -> bool:
        return self._flag[0] == 1

    def set(self) -> None:
        self._flag[0] = 1


class _Forking(multiprocessing.context.ForkContext):
    """How loading processes start, with the event by which torch's loader ends them."""

    Event = _Event  # type: ignore[assignment]  # of which torch asks no more than it has


class Batches:
    """The batches of a loader, counted, from number `first` on; `seed` fixes their augmentation.

    Raises UserError for an unreadable image, and where no process can be started.
    """

    def __init__(self, loader: DataLoader, seed: int = 0, first: int = 0):
        self.loader, self.seed, self.first = loader, seed, first

    def __len__(self) -> int:
        return max(len(self._requests.batches) - self.first, 0)

    def __iter__(self) -> Iterator[Batch | PixelBatch]:
        self._requests.seed, self._requests.first = self.seed, self.first
        try:
            with _signals_wait():
                batches = iter(self.loader)
        except OSError as error:  # processes wait for each other with files in shared memory
            raise UserError(
                f"The loading processes cannot be started ({error.strerror}); free "
                f"{SHARED_MEMORY}, or read in the main process with --kernels 0."
            ) from error
        try:
            for batch in batches:
                yield _read(batch)
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            # Killed while it handed a batch over: the message of a loader that sees it in time.
            _await_its_end()
            raise RuntimeError("DataLoader worker exited unexpectedly") from error

    @property
    def _requests(self) -> "_Requests":
        assert isinstance(self.loader.sampler, _Requests)
        return self.loader.sampler


class _Requests(Sampler):
    """The batches of a sampler from number `first` on, each with a seed of its own.

    Augmentation depends on (seed, batch, row), not on which process reads it, nor on how many share
    the batch.
    """

    def __init__(self, batches: BatchSource):
        self.batches, self.seed, self.first = batches, 0, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for number, indices in enumerate(self.batches):
            if number >= self.first:
                yield derive(self.seed, number), indices


class _BatchReader(Dataset):
    """A request, which is a seed and indices, -> the batch, or the first broken image of it.

    Args:
        part: of the images of a batch, which are read.
    """

    def __init__(self, split: ImageSplit, part: Part = WHOLE):
        self.split, self.part = split, part
        self.sizes: dict[int, tuple[int, int]] = {}  # of images that other processes read

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, request: tuple[int, list[int]]) -> Batch | PixelBatch | BrokenImage:
        seed, indices = request
        if not isinstance(self.split.transform, Crops):
            return self._transformed(indices)
        return self._cropped(indices, self.split.transform, np.random.default_rng(seed))

    def _cropped(
        self, indices: list[int], crops: Crops, random: np.random.Generator
    ) -> PixelBatch | BrokenImage:
        own = range(len(indices))[self.part.rows(len(indices))]
        images = torch.empty(len(own), crops.size, crops.size, 3, dtype=torch.uint8)
        boxes = self.split.boxes
        for row, index in enumerate(indices):
            box = None if boxes is None else tuple(boxes[index].tolist())
            try:
                if row in own:
                    source = self.split.open_image(self.split.files[index])
                    images[row - own.start] = crops.crop(source, random, box)
                else:
                    crops.pass_over(*self._size(index), random, box)
            except UNREADABLE as error:
                return BrokenImage(self.split.files[index], str(error))
        mirrored = np.flatnonzero(random.random(len(indices)) < (0.5 if crops.flips else 0))
        mirrored = mirrored[(mirrored >= own.start) & (mirrored < own.stop)] - own.start
        return PixelBatch(
            images.permute(0, 3, 1, 2),
            torch.from_numpy(self.split.labels[indices]),
            torch.tensor(indices),
            torch.from_numpy(mirrored),
            crops.mean,
            crops.std,
        )

    def _size(self, index: int) -> tuple[int, int]:
        """Height and width of an image whose pixels another process reads."""
        if index not in self.sizes:
            width, height = size_of(self.split.files[index], oriented=self.split.oriented)
            self.sizes[index] = height, width
        return self.sizes[index]

    def _transformed(self, indices: list[int]) -> Batch | BrokenImage:
        """Samples of a transform that is not ours, float [3, H, W] each."""
        samples = [self.split[index] for index in indices]
        broken = [sample for sample in samples if isinstance(sample, BrokenImage)]
        return broken[0] if broken else Batch(*default_collate(samples))


class _HandOver:
    """What a process does with a batch: tensors in shared memory, or where it is short, bytes.

    Where it is full, torch would wait for ever for a batch that never comes.

    Args:
        workers: each may be about to put a batch there.
    """

    def __init__(self, workers: int):
        self.workers = workers

    def __call__(self, batch: Any) -> Any:
        if isinstance(batch, BrokenImage):
            return batch
        size = sum(part.nbytes for part in batch if isinstance(part, torch.Tensor))
        is_short = _free_shared_memory() < (self.workers + 1) * size
        return pickle.dumps(batch, pickle.HIGHEST_PROTOCOL) if is_short else batch


def _read(batch: Any) -> Batch | PixelBatch:
    """A batch as the main process gets it. Raises UserError for a broken image."""
    if isinstance(batch, bytes):
        _tell_of_pipes()
        batch = pickle.loads(batch)  # what our own process has just read
    if isinstance(batch, BrokenImage):
        raise UserError(
            f"The image {batch.path} cannot be read ({batch.reason}); "
            "replace or remove it, or leave such images out with --on_bad_image skip."
        )
    return batch


def _await_its_end(seconds: float = 10) -> None:
    """Take leave of a loading process whose pipe broke.

    The signal of its end is still on the way, and torch answers it with an exception wherever
    Python is then: in a `__del__`, as the loader is put away, it would be a printed traceback.
    """
    processes = {process.sentinel: process for process in multiprocessing.active_children()}
    for sentinel in multiprocessing.connection.wait(list(processes), timeout=seconds):
        assert isinstance(sentinel, int)
        processes[sentinel].join(seconds)


def _free_shared_memory() -> float:
    """Bytes; infinite where the system has another kind."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return float("inf")
    return status.f_bavail * status.f_frsize


@cache  # once
def _tell_of_pipes() -> None:
    LOG.info(
        "%s is too small for batches of this size (%.0f MB are free): the loading processes hand "
        "them over in pipes, which is slower; in a container raise it with --shm-size, or lower "
        "--kernels or --bs.",
        SHARED_MEMORY,
        _free_shared_memory() / 2**20,
    )


def _as_it_is(batch: Collated) -> Collated:
    return batch


def _begin(worker: int) -> None:
    """The first act of a loading process."""
    gc.freeze()  # what it has inherited is not its own to free
    _leave_quietly()
    queues = multiprocessing.queues.Queue
    queues._on_queue_feeder_error = _leave_with_its_batch  # type: ignore[attr-defined]  # no stub


def _leave_with_its_batch(*ignored: object) -> NoReturn:
    """Ends a process that has no shared memory for a batch: its reader would wait for it."""
    os._exit(1)


def _leave_quietly() -> None:
    """No traceback of a loading process whose reader was interrupted while it took a batch.

    A scheduler's signals to all processes of a job are for the main process to answer: this one
    ends when that one says so.
    """
    sys.excepthook = _told_unless_interrupted
    if hasattr(signal, "sigwaitinfo"):  # elsewhere nobody can ask who sent a signal
        threading.Thread(target=_leave_when_told_by, args=(os.getppid(),), daemon=True).start()


def _leave_when_told_by(reader: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM, signal.SIGUSR1}).si_pid != reader:
        pass
    os._exit(0)


def _told_unless_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals to stop wait until the workers are started.

    They inherit the mask, so that only the main process answers to them. The mask is that of one
    thread: a signal that comes to another one is held.
    """
    with signals.held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
