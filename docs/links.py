"""A hook of mkdocs: texts of the repository as pages, and its links as links between pages.

`{{ FILE }}` stands for a file, `{{ FILE # Section }}` for what is below a heading of it, and
`{{ FILE # }}` for what is above the first.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INCLUDED = re.compile(r"^\{\{ (\S+)(?: #( .+)?)? \}\}$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
PAGES = {
    "CONTRIBUTING.md": "adding.md",
    "CHANGELOG.md": "changes.md",
    "README.md": "index.md",
    "README.md#your-own-data": "data.md#your-own-data",
}


def on_page_markdown(markdown: str, **ignored: Any) -> str:
    """The page with what `{{ FILE }}` stands for, and links that hold on the site."""
    return LINK.sub(_on_the_site, INCLUDED.sub(_text, markdown))


def _text(match: re.Match[str]) -> str:
    """What an inclusion stands for; raises KeyError for a section that there is not."""
    whole = (ROOT / match[1]).read_text(encoding="utf-8")
    if " #" not in match[0]:
        return whole
    above, *sections = whole.split("\n## ")
    by_heading = dict(section.split("\n", 1) for section in sections)
    return (by_heading[match[2].strip()] if match[2] else above).strip("\n")


def _on_the_site(match: re.Match[str]) -> str:
    """A link to a page or elsewhere as it is there; a file that is no page by its name."""
    mark, label, target = match.groups()
    target = target.removeprefix("../").removeprefix("docs/")
    target = PAGES.get(target, target)
    path = target.partition("#")[0]
    is_elsewhere = "://" in target or not path
    if is_elsewhere or (ROOT / "docs" / path).is_file():
        return f"{mark}[{label}]({target})"
    is_its_name = label.endswith(path) or path.startswith(label)
    return f"`{target}`" if is_its_name else f"{label} (`{target}`)"
