"""A page from its parts: one HTML file that holds all it needs."""

import base64
import hashlib
from datetime import date
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from programs.page import chart, heat_map
from programs.page.panels import KINDS
from programs.page.text import visible
from utilities import durable
from utilities.errors import UserError
from utilities.version import VERSION

TEMPLATES = Path(__file__).parent / "templates"
MARK = "A page of python -m programs.report"  # in its second line, by which it is known again
BEGINNING = 200  # bytes in which the mark lies


def require_free(file: Path) -> None:
    """Raises UserError where a page cannot be written, or would take the place of another file."""
    if not file.parent.is_dir():
        raise UserError(f"--to {file}: there is no folder {file.parent}.")
    if file.is_dir():
        raise UserError(f"--to {file} is a folder; give the name of a file.")
    try:
        beginning = file.open("rb").read(BEGINNING) if file.exists() else MARK.encode()
    except OSError as error:
        raise UserError(f"--to {file} cannot be read ({error.strerror}).") from error
    if MARK.encode() not in beginning:
        raise UserError(f"--to {file} is there and is no page of this program; give another name.")


def write(file: Path, template: str, **parts: object) -> int:
    """Write a page, or write it anew; returns its bytes.

    Raises UserError where there is no place for it.
    """
    require_free(file)
    page = rendered(template, **parts).encode()
    with durable.written(file, f"--to {file}") as temporary:
        temporary.write_bytes(page)
    return len(page)


def rendered(template: str, **parts: object) -> str:
    """The text of a page; whatever names hold is text in it, and nothing else."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = _text_of("page.js"), _text_of("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "mark": MARK,
        "script": script,
        "script_hash": f"sha256-{digest}",
        "style": style,
        "version": VERSION,
        "today": date.today().isoformat(),
        "frame": _frame(),
        "colours": heat_map.colours(),
        "kinds": KINDS,
        "visible": visible,
    }
    return environment.get_template(template).render(**parts)


def _finalized(value: object) -> object:
    """What stands in a page for a value: text whose every character can be seen."""
    is_plain = type(value) is str  # what is HTML already is a class of its own
    return visible(str(value)) if is_plain else value


def _text_of(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def _frame() -> dict[str, int]:
    """Sizes that drawings share."""
    return {
        "width": chart.WIDTH,
        "height": chart.HEIGHT,
        "left": chart.LEFT,
        "right": chart.RIGHT,
        "top": chart.TOP,
        "bottom": chart.BOTTOM,
        "cell": heat_map.CELL,
        "labels": heat_map.LABELS,
    }
