"""A page as a program reads it: its elements, and what is wrong with them."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

EMPTY = {"meta", "link", "img", "input", "br"}
CLOSED_BY_SVG = {"circle", "rect", "path", "line"}


class Element:
    def __init__(self, name: str, attributes: dict[str, str], above: "Element | None"):
        self.name, self.attributes, self.above = name, attributes, above
        self.parts: list[Element | str] = []

    @property
    def text(self) -> str:
        parts = (part if isinstance(part, str) else part.text for part in self.parts)
        return re.sub(r"\s+", " ", "".join(parts)).strip()

    def all(self, name: str, **wanted: str) -> list["Element"]:
        """Elements below of a name, with such values of attributes (`class_` is class)."""
        found = []
        for part in self.parts:
            if isinstance(part, Element):
                attributes = {key.rstrip("_"): value for key, value in wanted.items()}
                if part.name == name and attributes.items() <= part.attributes.items():
                    found.append(part)
                found += part.all(name, **wanted)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)
        self.unbalanced: list[str] = []

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.parts.append(element)
        if tag not in EMPTY:
            self.at = element

    def handle_startendtag(self, tag, attrs):
        self.at.parts.append(Element(tag, {name: value or "" for name, value in attrs}, self.at))

    def handle_endtag(self, tag):
        if tag != self.at.name:
            self.unbalanced.append(f"</{tag}> in <{self.at.name}>")
        elif self.at.above:
            self.at = self.at.above

    def handle_data(self, data):
        self.at.parts.append(data)


def read(file: Path) -> Element:
    """The page; whatever it opens it closes."""
    reader = _Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    assert not reader.unbalanced and reader.at is reader.root, reader.unbalanced
    return reader.root


def addresses(page: Element) -> set[str]:
    """The beginnings of all that the page points to: `data:`, `#`."""
    found = set()
    for name, key in (("img", "src"), ("link", "href"), ("a", "href"), ("script", "src")):
        found |= {
            element.attributes[key] for element in page.all(name) if key in element.attributes
        }
    known = {
        address: [start for start in ("data:", "#") if address.startswith(start)]
        for address in found
    }
    return {starts[0] if starts else address for address, starts in known.items()}


def faults(page: Element) -> list[str]:
    """What keeps a page from being read by everybody, as far as its elements say."""
    found = []
    levels = [int(e.name[1]) for e in _in_order(page) if re.fullmatch("h[1-6]", e.name)]
    if levels[:1] != [1] or levels.count(1) != 1:
        found.append("one h1, at the beginning")
    found += [f"h{a} then h{b}" for a, b in itertools.pairwise(levels) if b > a + 1]
    ids = [e.attributes["id"] for e in _in_order(page) if "id" in e.attributes]
    found += [f"two elements are #{one}" for one in set(ids) if ids.count(one) > 1]
    for element in _in_order(page):
        targets = [element.attributes.get("aria-labelledby", "")]
        if element.attributes.get("href", "").startswith("#"):
            targets.append(element.attributes["href"][1:])
        found += [f"#{target} is nowhere" for target in targets if target and target not in ids]
    found += ["img without alt" for img in page.all("img") if not img.attributes.get("alt")]
    for table in page.all("table"):
        if not table.all("caption"):
            found.append("table without caption")
        found += ["th without scope" for th in table.all("th") if "scope" not in th.attributes]
    drawings = page.all("svg")
    silent = [d for d in drawings if not {"aria-label", "aria-hidden"} & d.attributes.keys()]
    found += ["svg without label"] * len(silent)
    return found


def _in_order(element: Element) -> list[Element]:
    inside = [part for part in element.parts if isinstance(part, Element)]
    return [each for part in inside for each in (part, *_in_order(part))]
