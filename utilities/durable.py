"""Files that are whole and there, whatever happens next: a kill, a power cut."""

import os
from pathlib import Path


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
