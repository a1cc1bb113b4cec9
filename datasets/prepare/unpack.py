"""Archives into a folder, so that no path of one leaves it."""

import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from datasets import scan
from utilities.errors import UserError, reason
from utilities.progress import progress

SUFFIXES = (".tgz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    OSError,
    KeyError,  # of a link to what the archive does not have
    RuntimeError,
    NotImplementedError,
)
COMPRESSED_IMAGES = 1.1  # a compressed tar does not tell its size; images in it barely shrink


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def files_of(source: Path) -> list[str]:
    """All files below a folder, sorted, without stray ones, pipes and devices; or the one file."""
    if not source.is_dir():
        return [str(source)]
    files = []
    for current, folders, names in os.walk(source, followlinks=True):
        folders[:] = [name for name in folders if not scan.is_stray(name)]
        files += [os.path.join(current, name) for name in names if not scan.is_stray(name)]
    return sorted(filter(os.path.isfile, files))


def require_checksum(path: Path, md5: str) -> None:
    """Raises UserError if the file is not the published one."""
    if (actual := checksum(path)) != md5:
        raise UserError(
            f"--from: {path} is not the published file: its MD5 is {actual}, "
            f"that of the published one {md5}. Fetch it again, "
            "or take it as it is with --allow_partial."
        )


def checksum(path: Path) -> str:
    """MD5, the checksum that is known of these archives."""
    whole = hashlib.md5(usedforsecurity=False)
    with (
        path.open("rb") as file,
        progress(
            None,
            f"Checksum of {path.name}",
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            delay=2,
        ) as bar,
    ):
        while block := file.read(1 << 22):
            whole.update(block)
            bar.update(len(block))
    return whole.hexdigest()


def unpacked_size(path: Path) -> int:
    """Bytes that the archive needs on disk; an estimate for a compressed tar."""
    if _is_zip(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return sum(member.file_size for member in archive.infolist())
        except DAMAGED as error:
            raise _damaged(path, error) from error
    return int(path.stat().st_size * COMPRESSED_IMAGES)


def require_space(folder: Path, needed: int) -> None:
    """Raises UserError where the disk of `folder` is too small."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"--to {folder}: {needed / 1e9:.1f} GB are needed there, {free / 1e9:.1f} GB are free."
        )


def unpack(path: Path, folder: Path) -> list[str]:
    """The files of the archive, now in a new folder.

    Raises UserError for a damaged archive and for paths that would leave the folder.
    """
    folder.mkdir(parents=True)
    try:
        members = _zip_members(path, folder) if _is_zip(path) else _tar_members(path, folder)
        for _ in progress(members, f"Unpacking {path.name}", unit="file", delay=2):
            pass
    except tarfile.FilterError as error:
        raise _escaping(path, error.tarinfo.name) from error
    except DAMAGED as error:
        raise _damaged(path, error) from error
    return files_of(folder)


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def _tar_members(path: Path, folder: Path) -> Iterator[str]:
    with tarfile.open(path) as archive:
        # Compressed ones know where they end, of plain ones tarfile takes any end.
        if path.suffix.lower() == ".tar":
            _require_empty_end(path)
        for member in archive:
            if _wanted(path, member.name):
                archive.extract(member, folder, filter="data")
            yield member.name
        _require_end(archive)


def _require_end(archive: tarfile.TarFile) -> None:
    """Raises EOFError where what is no member of a tar is not its empty end.

    tarfile takes a damaged member for the end, and what is behind it would be missing.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if any(archive.fileobj.read(tarfile.BLOCKSIZE)):
        raise EOFError("a file in it is damaged")


def _require_empty_end(path: Path) -> None:
    """Raises EOFError for a tar without the empty block at its end."""
    with path.open("rb") as file:
        file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
        if any(file.read()):
            raise EOFError("it ends in the middle")


def _zip_members(path: Path, folder: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if _wanted(path, name):
                archive.extract(name, folder)
            yield name


def _wanted(archive: Path, name: str) -> bool:
    """Whether a member is more than a stray file. Raises UserError if it would leave the folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith("/") or ".." in parts:
        raise _escaping(archive, name)
    return not any(scan.is_stray(part) for part in parts if part != ".")


def _escaping(archive: Path, name: str) -> UserError:
    return UserError(
        f"--from: {archive} holds {name!r}, which would be written outside the folder; "
        "nothing of it was taken."
    )


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno:
        return UserError(f"--from: {path} cannot be unpacked ({error.strerror}).")
    if "password" in str(error):
        return UserError(f"--from: {path} is locked with a password that only its authors give.")
    return UserError(
        f"--from: {path} is damaged or no archive ({reason(error) or type(error).__name__}); "
        "fetch it again."
    )
