"""Fetching a file over an unreliable network.

It goes on where it stopped, and is checked at the end.
"""

import http.client
import urllib.error
import urllib.request
from pathlib import Path

from datasets.prepare import unpack
from utilities.errors import UserError
from utilities.progress import progress

TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 20


def fetch(url: str, folder: Path, md5: str) -> Path:
    """The file of the address in `folder`, as it was published.

    One that is there already is only checked. Raises UserError if the address does not answer, the
    connection breaks (the next call goes on from there), or the checksum differs.
    """
    target = folder / url.rpartition("/")[2]
    part = target.with_name(f"{target.name}.part")
    if target.exists():
        unpack.require_checksum(target, md5)
        return target
    _fetch_rest(url, part)
    if (received := unpack.checksum(part)) != md5:
        part.unlink()
        raise UserError(
            f"--download: what {url} sent is not the published file "
            f"(MD5 {received} instead of {md5}) and was removed; fetch it again."
        )
    return part.rename(target)


def _fetch_rest(url: str, part: Path) -> None:
    """Append to `part` what it lacks.

    A server that cannot begin in the middle sends all anew.
    """
    have, total = part.stat().st_size if part.exists() else 0, None
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            have = have if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            unpack.require_space(part.parent, (total or 0) - have)
            with (
                part.open("ab" if have else "wb") as file,
                progress(
                    None, part.stem, total=total, initial=have, unit="B", unit_scale=True
                ) as bar,
            ):
                while block := answer.read(BLOCK):
                    file.write(block)
                    have += len(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # everything was there already
        raise UserError(
            f"--download: {url} answers {error.code} {error.reason}; "
            "fetch it by other means and pass it with --from."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if have:
            raise _stopped(url, have, total) from error
        raise UserError(
            f"--download: {url} does not answer ({getattr(error, 'reason', None) or error}); "
            "fetch it on another machine and pass it with --from."
        ) from error
    if total is not None and have < total:
        raise _stopped(url, have, total)


def _stopped(url: str, have: int, total: int | None) -> UserError:
    whole = f" of {total / 1e6:,.1f}" if total else ""
    return UserError(
        f"--download: the connection to {url} broke after {have / 1e6:,.1f}{whole} MB; "
        "the same command goes on from there."
    )
