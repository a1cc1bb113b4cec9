"""Paths as people write them."""

import errno
import os
from itertools import islice

from utilities.errors import UserError, on_one_line

NAMES_LOOKED_AT = 1000  # for one that may be meant
NO_FILE = "It is a pipe or a device, not a file"


def expanded(path: str | os.PathLike[str]) -> str:
    """The path with `~` or `~name` at its beginning replaced by that home folder.

    Raises UserError where there is no such folder.
    """
    full = os.path.expanduser(os.fspath(path))
    if full.startswith("~"):
        raise UserError(without_home(full))
    return full


def without_home(path: str) -> str:
    """What is wrong with a path whose `~` stands for nobody's home folder, as a sentence."""
    user = path.partition("/")[0].removeprefix("~")
    why = f"there is no user {user!a}" if user else "~ has no meaning, because HOME is not set"
    return f"{path!a}: {why}; a name that begins with ~ is written ./~."


def require_readable(path: str | os.PathLike[str]) -> None:
    """Raises OSError for a named pipe or a device, which may be waited for, or read, for ever.

    What a shell hands over, `<(...)` or /dev/stdin, comes to an end.
    """
    if _never_ends(path):
        raise OSError(errno.EINVAL, NO_FILE, os.fspath(path))


def _never_ends(path: str | os.PathLike[str]) -> bool:
    is_odd = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    return is_odd and not os.path.realpath(path).startswith("/proc/")


def absent(path: str | os.PathLike[str], wanted: str = "file") -> str:
    """Why nothing of the wanted kind is there, as the end of a sentence.

    Args:
        wanted: "file", "folder" or another word for one of the two.
    """
    import difflib  # here, because few calls of the program need it

    if os.path.isdir(path):
        return f"it is a folder, not a {wanted}."
    if os.path.isfile(path):
        return f"it is a file, not a {wanted}."
    if os.path.exists(path):
        return f"it is a pipe or a device, not a {wanted}."
    if os.path.islink(path):
        return "it is a link that leads nowhere."
    there, name = os.path.split(os.path.abspath(path))
    if not os.path.isdir(there):
        while not os.path.exists(there):
            there = os.path.dirname(there)
        return f"there is no such {wanted}; the path leads no further than {there}."
    if close := difflib.get_close_matches(name, _some_names(there, wanted), n=1, cutoff=0.7):
        return f"there is no such {wanted}; did you mean {on_one_line(close[0])}?"
    return f"there is no such {wanted}."


def unread_yaml(path: str | os.PathLike[str], error: OSError) -> str:
    """Why a file of settings was not read, as the end of a sentence; a run folder has one."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
        return f"it cannot be read ({error.strerror or error})."
    within = [name for name in _some_names(path, "file") if name.endswith(".yaml")]
    if len(within) == 1:
        return f"it is a folder, not a file; is {on_one_line(os.path.join(path, *within))} meant?"
    return absent(path)


def _some_names(folder: str | os.PathLike[str], wanted: str) -> list[str]:
    """Of what lies in a folder, which may hold millions or be closed to us."""
    unwanted = {"file": os.DirEntry.is_dir, "folder": os.DirEntry.is_file}.get(wanted)
    try:
        with os.scandir(folder) as entries:
            some = islice(entries, NAMES_LOOKED_AT)
            return [entry.name for entry in some if not (unwanted and unwanted(entry))]
    except OSError:
        return []


def unreachable(path: str | os.PathLike[str]) -> str | None:
    """Why a path cannot even be looked at, or not be read to an end; None where it can."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return NO_FILE if _never_ends(path) else None
