"""Archives that lie, lead elsewhere, or hold what is no file."""

import struct
import tarfile
from pathlib import Path
from random import Random

from benchmarks.faults import samples as valid
from benchmarks.faults.mutations import NAMES_OF_ELSEWHERE, damaged


def packed(files: valid.Files, suffix: str, more: list[tarfile.TarInfo] | None = None) -> bytes:
    if suffix == ".zip":
        return valid.zipped(files)
    compression = {".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}.get(suffix, "")
    return valid.tarred(files, compression, more)


def odd_archive(
    random: Random, files: dict[str, bytes | str], suffix: str, folder: Path
) -> tuple[str, bytes]:
    choice = random.choice(("elsewhere", "kinds", "bomb", "names", "size", "within", "list"))
    first = next(iter(files))
    if choice == "elsewhere":
        elsewhere = random.choice(
            (*NAMES_OF_ELSEWHERE, str(folder.parent / "escaped"), "..\\..\\x")
        )
        return f"{choice} {elsewhere:.30}", packed(files | {elsewhere: b"x"}, suffix)
    if choice == "bomb":
        return choice, packed(files | {"CUB/large.txt": bytes(2**28)}, suffix)
    if choice == "within":
        inner = {f"{first}.zip": packed(files, ".zip"), "a.tar": b"x"}
        return choice, packed(inner, suffix)
    if choice == "names":
        odd = random.choice(
            ("CUB/images/a\nb/c.jpg", "x" * 300, f"{first}/x", "a\0b", "CUB", "é\udcff")
        )
        return f"{choice} {odd!r:.20}", packed(files | {_zip_name(odd, suffix): b"x"}, suffix)
    if choice == "list":
        listed = random.choice([path for path in files if not path.lower().endswith(".jpg")])
        whole = files[listed]
        accident, content = damaged(random, whole if isinstance(whole, bytes) else whole.encode())
        return f"{listed} {accident}", packed(files | {listed: content}, suffix)
    if suffix == ".zip":
        content = packed(files, suffix)
        return "a size that lies", _with_sizes(random, content)
    return _tar_with_odd_members(random, files, suffix, folder)


def _zip_name(name: str, suffix: str) -> str:
    return name.replace("\udcff", "ü") if suffix == ".zip" else name


def _with_sizes(random: Random, content: bytes) -> bytes:
    """A zip whose directory says other sizes of a member."""
    at = content.rfind(b"PK\1\2")
    field = at + random.choice((20, 24, 42))
    size = struct.pack("<I", random.choice((0, 1, 2**31, 2**32 - 2)))
    return content[:field] + size + content[field + 4 :]


def _tar_with_odd_members(
    random: Random, files: valid.Files, suffix: str, folder: Path
) -> tuple[str, bytes]:
    member = tarfile.TarInfo(random.choice(("CUB/odd", "odd.jpg", "CUB/images/odd/odd.jpg")))
    kinds = {
        "link out": (tarfile.SYMTYPE, str(folder.parent)),
        "link above": (tarfile.SYMTYPE, "../../../.."),
        "hard link out": (tarfile.LNKTYPE, "/etc/passwd"),
        "hard link to nothing": (tarfile.LNKTYPE, "nothing"),
        "link to itself": (tarfile.SYMTYPE, "odd.jpg"),
        "link to the folder": (tarfile.SYMTYPE, "."),
        "pipe": (tarfile.FIFOTYPE, ""),
        "device": (tarfile.CHRTYPE, ""),
        "folder": (tarfile.DIRTYPE, ""),
        "sparse": (tarfile.GNUTYPE_SPARSE, ""),
        "unknown": (b"Z", ""),
    }
    kind = random.choice(list(kinds))
    member.type, member.linkname = kinds[kind]
    member.mode = random.choice((0o644, 0o7777, 0))
    through = tarfile.TarInfo(f"{member.name}/escaped")
    if random.random() < 0.3:
        member.size, kind = 2**50, f"{kind} of an enormous size"
    return f"{kind} {member.name}", packed(files, suffix, [member, through])
