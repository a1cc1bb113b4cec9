"""Valid bytes, texts, trees and tables -> damaged or odd ones. All draw from one seeded generator.

Each gives the name of what it did with the result, for the table of `fuzz.py`.
"""

import gzip
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

Bytes = tuple[str, bytes]

BOUNDARIES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
NAMES_OF_ELSEWHERE = ("../escaped", "../../escaped", "/tmp/../escaped", "..", ".", "~", "a/../../b")
WORDS = (
    "",
    " ",
    "x",
    "nan",
    "None",
    "-1",
    "1e400",
    "0x10",
    "9" * 40,
    "é\u202eü",
    "\u0000",
    "{}{0}{x}",
    "%s%n",
    "$$^_",
    "a\nb",
    "x" * 5000,
    *NAMES_OF_ELSEWHERE,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    10**40,
    -0.5,
    1e308,
    float("inf"),
    float("nan"),
    [],
    [[]],
    [None, None],
    {},
    {"a": {"b": 1}},
    *WORDS,
)


def damaged(random: Random, data: bytes, others: Iterable[bytes] = ()) -> Bytes:
    """One or two accidents of disks, transfers and editors."""
    accidents = [random.choice(ACCIDENTS) for _ in range(random.choice((1, 1, 1, 2)))]
    names = []
    for accident in accidents:
        data = accident(random, data)
        names.append(accident.__name__.strip("_").replace("_", " "))
    strangers = list(others)
    if strangers and random.random() < 0.1:
        names.append("continued by another file")
        data = data[: random.randrange(len(data) + 1)] + random.choice(strangers)
    return ", ".join(names), data


def _nothing(random: Random, data: bytes) -> bytes:
    return b""


def _cut_off(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _cut_off_a_little(random: Random, data: bytes) -> bytes:
    return data[: -random.randint(1, 16)]


def _without_its_beginning(random: Random, data: bytes) -> bytes:
    return data[random.randint(1, 16) :]


def _flipped_bits(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 3, 30)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flipped_bits_in_its_beginning(random: Random, data: bytes) -> bytes:
    return _flipped_bits(random, data[:128]) + data[128:]


def _flipped_bits_in_its_end(random: Random, data: bytes) -> bytes:
    return data[:-256] + _flipped_bits(random, data[-256:])


def _a_number_at_its_bounds(random: Random, data: bytes) -> bytes:
    order = random.choice(("little", "big"))
    number = random.choice(BOUNDARIES).to_bytes(4, order)  # type: ignore[arg-type]
    place = random.randrange(max(1, len(data) - 4))
    return data[:place] + number + data[place + 4 :]


def _a_block_of_zeros(random: Random, data: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    length = min(random.choice((16, 512, 4096)), len(data) - start)
    return data[:start] + bytes(length) + data[start + length :]


def _a_block_of_noise(random: Random, data: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    length = min(random.choice((4, 64, 1024)), len(data) - start)
    return data[:start] + random.randbytes(length) + data[start + length :]


def _a_block_twice(random: Random, data: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[: start + random.choice((4, 256))] + data[start:]


def _a_block_missing(random: Random, data: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + data[start + random.choice((1, 4, 256)) :]


def _twice(random: Random, data: bytes) -> bytes:
    return data + data


def _noise_behind_it(random: Random, data: bytes) -> bytes:
    return data + random.randbytes(random.choice((1, 100, 5000)))


def _noise(random: Random, data: bytes) -> bytes:
    return random.randbytes(random.choice((1, 10, 1000)))


def _noise_behind_its_beginning(random: Random, data: bytes) -> bytes:
    return data[: random.choice((2, 4, 8, 64))] + random.randbytes(500)


def _line_ends_of_windows(random: Random, data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def _compressed(random: Random, data: bytes) -> bytes:
    return gzip.compress(data)


ACCIDENTS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _nothing,
    _cut_off,
    _cut_off_a_little,
    _without_its_beginning,
    _flipped_bits,
    _flipped_bits,
    _flipped_bits_in_its_beginning,
    _flipped_bits_in_its_end,
    _a_number_at_its_bounds,
    _a_number_at_its_bounds,
    _a_block_of_zeros,
    _a_block_of_noise,
    _a_block_twice,
    _a_block_missing,
    _twice,
    _noise_behind_it,
    _noise,
    _noise_behind_its_beginning,
    _line_ends_of_windows,
    _compressed,
)


def encoded(random: Random, text: str) -> Bytes:
    """The bytes of a text as some editor leaves them."""
    name = random.choice(("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-7"))
    return name, text.encode(name, errors="replace")


def reshaped(random: Random, tree: Any, values: tuple[Any, ...] = VALUES) -> tuple[str, Any]:
    """One to three places of a tree of lists and dicts that hold something else, or are gone."""
    done = []
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return "nothing left", tree
        owner, key = random.choice(places)
        if random.random() < 0.2:
            done.append(f"without {key!r:.40}")
            del owner[key]
        elif isinstance(owner, dict) and random.random() < 0.1:
            done.append(f"{key!r:.40} under another name")
            owner[random.choice(WORDS)] = owner.pop(key)
        else:
            owner[key] = random.choice(values)
            done.append(f"{key!r:.40} is {owner[key]!r:.40}")
    return "; ".join(done), tree


def _places(tree: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(tree, dict):
        pairs: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list):
        pairs = enumerate(tree)
    else:
        return
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


Rows = list[dict[str, Any]]


def odd_rows(random: Random, rows: Rows) -> tuple[str, Rows]:
    """Rows of a table with one or two things wrong."""
    rows, done = [dict(row) for row in rows], []
    for _ in range(random.choice((1, 1, 2))):
        change = random.choice(TABLE_CHANGES)
        done.append(change.__name__.strip("_").replace("_", " "))
        rows = change(random, rows)
    return ", ".join(done), rows


def _odd_cells(random: Random, rows: Rows) -> Rows:
    for _ in range(random.choice((1, 4))):
        row = random.choice(rows)
        row[random.choice(list(row))] = random.choice(WORDS)
    return rows


def _an_odd_column(random: Random, rows: Rows) -> Rows:
    column, word = random.choice(list(rows[0])), random.choice(WORDS)
    return [row | {column: word} for row in rows]


def _a_column_less(random: Random, rows: Rows) -> Rows:
    gone = random.choice(list(rows[0]))
    return [{name: cell for name, cell in row.items() if name != gone} for row in rows]


def _a_column_under_another_name(random: Random, rows: Rows) -> Rows:
    column = random.choice(list(rows[0]))
    name = random.choice((column.upper(), f" {column}", f"{column}s", "Unnamed: 0", *WORDS))
    return [{name if key == column else key: cell for key, cell in row.items()} for row in rows]


def _another_column(random: Random, rows: Rows) -> Rows:
    name = random.choice(("caption", "is_query", "is_gallery", "superclass", "box", "class_name"))
    words = (random.choice(WORDS), "1", "0", "0 0 9 9", "5,5,2,2")
    return [row | {name: random.choice(words)} for row in rows]


def _fewer_rows(random: Random, rows: Rows) -> Rows:
    kept = random.sample(rows, random.randint(1, len(rows)))
    return kept


def _rows_twice(random: Random, rows: Rows) -> Rows:
    return rows + random.sample(rows, random.randint(1, len(rows)))


def _labels_shuffled(random: Random, rows: Rows) -> Rows:
    labels = [row.get("label", "") for row in rows]
    random.shuffle(labels)
    return [row | {"label": label} for row, label in zip(rows, labels)]


def _a_cell_for_all_labels(random: Random, rows: Rows) -> Rows:
    return [row | {"label": "same"} for row in rows]


TABLE_CHANGES = (
    _odd_cells,
    _odd_cells,
    _an_odd_column,
    _a_column_less,
    _a_column_under_another_name,
    _another_column,
    _another_column,
    _fewer_rows,
    _rows_twice,
    _labels_shuffled,
    _a_cell_for_all_labels,
)
