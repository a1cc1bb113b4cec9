"""Pages in a real browser: keyboard, pointer, a phone, the dark, paper."""

import browser as chromium
import made_up_runs
import pytest

from programs import report

pytestmark = pytest.mark.skipif(
    chromium.program() is None, reason="no Chromium on this machine (Debian: chromium)"
)
FIRST_CHART = "document.querySelector('.chart')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = chromium.Browser(str(chromium.program()), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(run_folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "run.html"
    assert report.main([str(run_folder), "--to", str(file), "--kernels", "0"]) == 0
    return file


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The page of several runs."""
    folder = tmp_path_factory.mktemp("several")
    for seed in range(4):
        group = "a_group_with_a_name_that_is_long_" * 2 + str(seed % 2)
        made_up_runs.finished(folder / str(seed), group=group, seed=seed)
    assert report.main([str(folder)]) == 0
    return folder / "report.html"


def test_a_comparison_fits_a_phone_and_follows_the_keyboard(browser, compared):
    browser.open(compared, width=360)
    browser.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert not browser.problems() and browser.requests() == [compared.resolve().as_uri()]
    browser.evaluate(f"{FIRST_CHART}.querySelector('input').focus()")
    browser.press("ArrowLeft")
    assert browser.evaluate(f"{FIRST_CHART}.querySelector('.number').textContent") == "2"


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_fits_and_nothing_is_wrong(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert not browser.problems() and browser.requests() == [page.resolve().as_uri()]
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(16, 21, 27)" if dark else "rgb(255, 255, 255)")
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.evaluate(broken) == 0 and browser.evaluate("document.images.length") > 50


def test_values_follow_the_keyboard_and_the_pointer(browser, page):
    browser.open(page)
    shown = f"{FIRST_CHART}.querySelector('.value').textContent"
    cells = browser.evaluate(f"JSON.parse({FIRST_CHART}.dataset.chart).cells[0]")
    browser.evaluate(f"{FIRST_CHART}.querySelector('input').focus()")
    assert browser.evaluate(shown) == cells[1]
    browser.press("ArrowLeft")
    assert browser.evaluate(shown) == cells[0]
    spoken = f"{FIRST_CHART}.querySelector('input').getAttribute('aria-valuetext')"
    assert browser.evaluate(spoken) == f"epoch 1: e_recall@1 {cells[0]}"
    browser.evaluate(f"{FIRST_CHART}.scrollIntoView()")
    box = browser.evaluate(f"{FIRST_CHART}.querySelector('svg').getBoundingClientRect().toJSON()")
    browser.point(box["x"] + 0.95 * box["width"], box["y"] + box["height"] / 2)
    assert browser.evaluate(shown) == cells[1]


def test_queries_are_chosen_by_keyboard(browser, page):
    browser.open(page)
    visible = "[...document.querySelectorAll('.panel:not([hidden])')].map(p => p.dataset.{})"
    assert browser.evaluate(visible.format("kind")) == ["best"] * 3
    browser.evaluate("document.querySelector('[name=kind]:checked').focus()")
    browser.press("ArrowRight")
    assert browser.evaluate(visible.format("kind")) == ["median"] * 3
    browser.evaluate("document.querySelector('[name=class]').focus()")
    browser.press("ArrowDown")
    assert set(browser.evaluate(visible.format("class"))) == {"0"}
    status = browser.evaluate("document.querySelector('.filter output').textContent")
    assert status == "3 of 9 queries"


def test_the_first_key_skips_to_the_content(browser, page):
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.id") == "content"


def test_every_stop_of_the_keyboard_has_a_name(browser, page):
    browser.open(page)
    nameless = """[...document.querySelectorAll('a, input, select, summary, [tabindex="0"]')]
        .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"""
    assert browser.evaluate(nameless) == 0


def test_two_classes_are_compared(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('[name=other]').focus()")
    browser.press("ArrowDown")
    said = browser.evaluate("document.querySelector('.similarity output').textContent")
    cells = "JSON.parse(document.querySelector('.similarity').dataset.maps).map(m => m.cells[0][2])"
    by_images, in_language = browser.evaluate(cells)
    assert said == f"{by_images} by their images, {in_language} in language"


def test_a_page_can_be_printed(browser, page):
    browser.open(page, dark=True)
    assert browser.printed().startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.querySelector('{}')).{}"
    assert browser.evaluate(shown.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    assert browser.evaluate(shown.format("nav", "display")) == "none"
