"""The exception whose message is for the person at the shell, and how messages name things."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

# What torch, cuBLAS, cuDNN and faiss say where a GPU has no memory left, beside torch's own type.
GPU_IS_FULL = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "StandardGpuResources: alloc fail",
    "cudaMalloc",
)
HOST_IS_FULL = ("DefaultCPUAllocator", "std::bad_alloc")
COMPILERS = ("torch._dynamo.", "torch._inductor.")
LONE_VALUE = "Expected more than 1 value per channel when training"  # a BatchNorm of torch


class UserError(Exception):
    """A wrong setting or file.

    The message says what is wrong and what to do; main prints it without a traceback.
    """


class NonFiniteLoss(RuntimeError):
    """A loss, or what came of it, is NaN or infinite; the message names the part and the step."""


def of_loading(error: BaseException) -> str | None:
    """The beginning of a sentence where a process that reads images has ended; None otherwise.

    torch raises it as a RuntimeError, and at any moment of the main process.
    """
    message = str(error)
    if not message.startswith("DataLoader worker"):
        return None
    _, by_signal, words = message.partition(" by signal: ")
    how = f" by {_name_of_signal(words.split('.')[0])}" if by_signal else ""
    return (
        f"a process that reads images was ended{how}, perhaps because memory ran out (a lower "
        "--kernels, --bs or --cache_limit helps)"
    )


def _name_of_signal(said: str) -> str:
    """SIGKILL for "Killed", as the system words it."""
    names = {signal.strsignal(number): number.name for number in signal.Signals}
    return names.get(said, f"signal {said}")


def of_norms(error: BaseException) -> str | None:
    """A sentence, without its point, where a BatchNorm has nothing to normalise by; None otherwise.

    A map of a single pixel, as small images leave one, has that of one image.
    """
    if not str(error).startswith(LONE_VALUE):
        return None
    return (
        "a BatchNorm that learns got one image whose map is a single pixel, by which it cannot "
        "normalise; let --bs leave no process, nor --micro_batch any chunk, with one image, or use "
        "--arch with _frozen"
    )


def of_compiling(error: BaseException) -> str | None:
    """A sentence, without its point, where torch has failed to compile; None otherwise.

    Some optimisers of timm compile their steps, without --compile too.
    """
    if not any(kind.__module__.startswith(COMPILERS) for kind in type(error).__mro__):
        return None
    cause = getattr(error, "inner_exception", error)
    why = reason(f"{type(cause).__name__}: {cause}")
    return (
        f"torch could not compile ({why}); install a C++ compiler with Python's headers, leave out "
        "--compile, or an --optim that compiles its steps, as timm:kron does; where a file is too "
        "short, a compilation was cut off, and the folder that it is in can be removed"
    )


class MemoryAdvice(NamedTuple):
    """What helps where memory of the host or of the GPU is short, as the end of a sentence."""

    host: str
    gpu: str


OF_A_RUN = MemoryAdvice(
    host="lower --bs or --micro_batch, --image_size, --embed_dim or --cache_limit",
    gpu="lower --bs or --micro_batch (or --image_size in training), or use --precision bf16",
)


def of_memory(error: BaseException, advice: MemoryAdvice = OF_A_RUN) -> str | None:
    """A sentence, without its point, where memory cannot be had; None otherwise."""
    if _is_of_gpu(error):
        return f"the GPU is out of memory; {advice.gpu}"
    if isinstance(error, MemoryError) or any(word in str(error) for word in HOST_IS_FULL):
        return f"the memory of this machine is too short for what was asked of it; {advice.host}"
    return None


def _is_of_gpu(error: BaseException) -> bool:
    """torch's own type is known by its name: programs that need no torch do not load it."""
    kind = type(error)
    if (kind.__module__.partition(".")[0], kind.__name__) == ("torch", "OutOfMemoryError"):
        return True
    return any(word in str(error) for word in GPU_IS_FULL)


@contextmanager
def short_memory_told(work: str, advice: MemoryAdvice) -> Iterator[None]:
    """Raises UserError, naming the work, where what happens inside finds no memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not (sentence := of_memory(error, advice)):
            raise
        raise UserError(f"{work}: {sentence}.") from error


def on_one_line(text: str) -> str:
    """With escapes for line ends, control characters and bytes that are no text, as in names."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


def in_escapes(text: str) -> str:
    """With escapes for bytes that are no text, as names of files may hold them."""
    return text.encode(errors="backslashreplace").decode()


def reason(error: Exception | str) -> str:
    """What another library's exception or warning says, as a short part of one sentence."""
    return " ".join(str(error).split())[:160]


def named(things: Sequence[str], shown: int = 3) -> str:
    """The first few of some things, and how many there are beside them.

    In quotes where spaces, or nothing, would not be seen.
    """
    others = len(things) - shown
    names = map(str, things[:shown])
    told = [name if name and name == name.strip() else repr(name) for name in names]
    return ", ".join(told) + (f" and {others} more" if others > 0 else "")
