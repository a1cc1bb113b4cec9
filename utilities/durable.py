"""Files that are whole and there, whatever happens next: a kill, a power cut."""

import errno
import glob
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utilities.errors import UserError, reason

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, or none granted
# What the writers of torch and safetensors say, which raise types of their own, and of a full
# disk numpy's, which gives no number.
OF_WRITING = ("inline_container", "PytorchStreamWriter", "Parent directory", "I/O error")
OF_OPENING = re.compile(r"failed with strerror: (.+)")  # torch's for what cannot be opened
FULL_IN_WORDS = ("unexpected pos", "requested and", *map(os.strerror, FULL))


@contextmanager
def written(path: Path, named: str = "") -> Iterator[Path]:
    """A temporary name, the file of which is put in the place of `path` when it is whole.

    Raises UserError for a disk that takes no more, as for all else that keeps it from being there;
    then the old file stays.

    Args:
        named: what the person at the shell knows it by, its path if that is not said.
    """
    temporary = temporary_for(path)
    try:
        yield temporary
        replace(temporary, path)
    except Exception as error:
        if not of_writing(error):
            raise
        raise UserError(f"{named or path} cannot be written {why(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def of_writing(error: Exception) -> bool:
    """Whether it says that a file could not be written.

    Libraries that cannot be loaded say so by an OSError, too, which has no number.
    """
    if isinstance(error, OSError):
        return error.errno is not None or _is_full(error)
    return not isinstance(error, UserError) and any(words in str(error) for words in OF_WRITING)


def why(error: Exception) -> str:
    """The end of a sentence that says what could not be written."""
    said = getattr(error, "strerror", None)
    if opened := OF_OPENING.search(str(error)):
        said = opened[1]
    if not _is_full(error):
        return f"({said or reason(error)})."
    # Other words for it mean something to their authors only.
    return f"({said or 'a part of it was written'}); is the disk full?"


def _is_full(error: Exception) -> bool:
    if number := getattr(error, "errno", None):
        return number in FULL
    return any(words in str(error) for words in FULL_IN_WORDS)


def replace(temporary: Path, path: Path) -> None:
    """Put a finished file in the place of another; a reader sees one or the other.

    What it holds and its name are on the disk when this returns.
    """
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk.

    Some file systems, of networks above all, cannot flush a folder: there it is theirs to keep.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(opened)


def temporary_for(path: Path) -> Path:
    """A name beside a file that several processes may write, of this one alone.

    What processes of this machine left there when they were killed is removed.
    """
    beginning = f"{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(beginning)}*.tmp"):
        process = left.name[len(beginning) : -len(".tmp")]
        if process.isdigit() and not _is_alive(int(process)):
            left.unlink(missing_ok=True)
    return path.with_name(f"{beginning}{os.getpid()}.tmp")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
