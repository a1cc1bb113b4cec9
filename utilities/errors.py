"""The exception whose message is for the person at the shell, and how messages name things."""

from collections.abc import Sequence


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
    _, by_signal, signal = message.partition(" by signal: ")
    how = f" by signal {signal.split('.')[0]}" if by_signal else ""
    return (
        f"a process that reads images was ended{how}, perhaps because memory ran out: lower "
        "--kernels, --bs or --cache_limit"
    )


def of_memory(error: BaseException) -> str | None:
    """The beginning of a sentence where memory of the host cannot be had; None otherwise."""
    if not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
        return None
    return (
        "the memory of this machine is too short for what was asked of it; lower --bs, "
        "--image_size, --embed_dim or --cache_limit"
    )


def of_gpu_memory(error: BaseException) -> str | None:
    """The beginning of a sentence where memory of the GPU cannot be had; None otherwise.

    torch's own type is known by its name, because programs that need no torch do not load it.
    """
    kind = type(error)
    if (kind.__module__.partition(".")[0], kind.__name__) != ("torch", "OutOfMemoryError"):
        return None
    return (
        "the GPU is out of memory; lower --bs (or --image_size in training), or use --precision "
        "bf16"
    )


def on_one_line(text: str) -> str:
    """With escapes for line ends, control characters and bytes that are no text, as in names."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


def in_escapes(text: str) -> str:
    """With escapes for bytes that are no text, as names of files may hold them."""
    return text.encode(errors="backslashreplace").decode()


def reason(error: Exception) -> str:
    """What another library's exception says, as a short part of one sentence."""
    return " ".join(str(error).split())[:160]


def named(things: Sequence[str], shown: int = 3) -> str:
    """The first few of some things, and how many there are beside them."""
    others = len(things) - shown
    return ", ".join(map(str, things[:shown])) + (f" and {others} more" if others > 0 else "")
