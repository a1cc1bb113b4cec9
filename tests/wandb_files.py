"""What W&B has written of an offline run."""

import json
import struct
import time
from pathlib import Path
from typing import Any


def wandb_records(path: Path) -> list:
    """The records of a .wandb file, once it is whole.

    W&B's own process writes it, and may still do so when the run has ended here: the last record
    is the end of the run.
    """
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        records = wandb_records_so_far(path.read_bytes())
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} does not end with the end of the run")


def wandb_records_so_far(data: bytes) -> list:
    """After a header of 7 bytes a LevelDB log: blocks of 32 KiB with chunks (crc, length, kind)."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # made when it is imported, so that no checker sees them
    position, whole, records = 7, b"", []
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + length > len(data):
            break
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last chunk of one
            records.append(messages.Record.FromString(whole))
            whole = b""
    return records


def offline_run(folder: Path) -> list:
    """The records of the last W&B run in a run folder."""
    return wandb_records(max(folder.glob("wandb/offline-run-*/*.wandb")))


def history(records: list) -> list[dict[str, Any]]:
    """The logged rows."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in of_kind(records, "history")
    ]


def of_kind(records: list, kind: str) -> list:
    """What records of a kind hold, in their order."""
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def updated(records: list, kind: str) -> dict[str, Any]:
    """The summary or the config as their records leave it."""
    found: dict[str, Any] = {}
    for record in records:
        message = getattr(record, kind) if record.WhichOneof("record_type") == kind else None
        if kind == "config" and record.WhichOneof("record_type") == "run":
            message = record.run.config
        for item in message.update if message else ():
            found[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return found
