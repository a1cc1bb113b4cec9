"""python -m programs.report: a page of a run, and what it says where something is not there."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import made_runs
import made_up_runs
import numpy as np
import pytest
import reading
import torch
from PIL import Image

from evaluation import Protocol
from programs import report
from programs.page import pictures, text, writing

QUICK = ["--kernels", "0", "--device", "cpu"]
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "{{ 7 * 7 }} {% raw %}",
    "小狗 كلب 🐕\u200d🦺",
    "a\u202eb",
    "&amp; &lt;",
]
OWN_PARTS = ["numbers", "curves", "retrieval", "classes", "settings", "environment", "reproduce"]


@pytest.fixture
def show(tmp_path, capsys):
    """Call the program; gives its page and what it said."""

    def call(*argv) -> tuple[reading.Element, str]:
        file = tmp_path / "page.html"
        assert report.main([*map(str, argv), "--to", str(file), *QUICK]) == 0
        return reading.read(file), capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def page_of_run(run_folder, tmp_path_factory) -> Path:
    """The page of the session's run, with panels."""
    file = tmp_path_factory.mktemp("page") / "run.html"
    assert report.main([str(run_folder), "--to", str(file), *QUICK]) == 0
    return file


def test_the_page_of_a_run_has_every_part(page_of_run, run_folder):
    page = reading.read(page_of_run)
    assert [heading.attributes["id"] for heading in page.all("h2")] == OWN_PARTS
    facts = json.loads((run_folder / "results.json").read_text())
    (recall,) = [page.all("dl")[0].all("strong")[0].text]
    best = facts["metrics"]["Test"]["embeds_e_recall: e_recall@1"]["best"]
    assert recall == text.number(best)
    differing = page.all("table")[
        [t.all("caption")[0].text for t in page.all("table")].index(
            "Settings that differ from the defaults"
        )
    ]
    rows = {row.all("th")[0].text: row.all("td")[0].text for row in differing.all("tr")[1:]}
    assert rows["--loss"] == "multisimilarity" and rows["--language_model"] == "minilm"
    assert "--samples_per_class" not in rows
    assert facts["command"].split()[0] in page.all("pre")[0].text
    texts = page.all("table", class_="texts")[0]
    assert [row.all("th")[0].text for row in texts.all("tr")[1:]] == [
        "Auklet",
        "Blackbird",
        "Catbird",
    ]
    assert len(texts.all("img")) == 3


def test_the_page_is_whole_and_open_to_everybody(page_of_run):
    page = reading.read(page_of_run)
    assert not reading.faults(page)
    assert reading.addresses(page) <= {"data:", "#"}
    assert not re.findall(r"url\((?!data:)|@import", page_of_run.read_text())
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.all("a")[0].attributes == {"class": "skip", "href": "#content"}


def test_panels_show_what_the_network_finds(page_of_run, run_folder, photos):
    from by_hand import embeddings

    page = reading.read(page_of_run)
    names = [f"{name}_{number}.png" for name in ("Dove", "Egret", "Finch") for number in range(8)]
    files = [photos / "birds" / "images" / name.split("_")[0] / name for name in names]
    rows = embeddings(run_folder, files)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -2)
    panels = page.all("article", class_="panel")
    assert [panel.attributes["data-kind"] for panel in panels] == ["best"] * 3 + ["median"] * 3 + [
        "worst"
    ] * 3
    precisions = []
    for panel in panels:
        note = panel.all("p")[0].text
        query = names.index(note.rpartition("/")[2])
        order = np.argsort(-similar[query], kind="stable")[:8]
        shown = panel.all("li")[1:]
        is_right = [names[row].split("_")[0] == names[query].split("_")[0] for row in order]
        assert [item.attributes["class"] == "right" for item in shown] == is_right
        for item, row in zip(shown, order):
            assert item.all("figcaption")[0].text.split()[1] == f"{similar[query, row]:.2f}"
        precisions.append(float(note.split()[2].rstrip(",")))
    assert precisions[0] == max(precisions) and precisions[6] == min(precisions)


@pytest.mark.parametrize("most", [1, 3, 7, 12, 60, 500])
def test_queries_are_of_all_kinds_and_classes(most):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 5)
    precisions = random.random(200)
    chosen = pictures.choose(precisions, labels, most)
    by_kind = {kind: [place for other, place in chosen if other == kind] for kind, _ in chosen}
    assert len(chosen) <= most and chosen[0] == ("best", int(precisions.argmax()))
    for kind, places in by_kind.items():
        assert len(set(labels[places])) == len(places), kind
    if most >= 3:
        assert by_kind["worst"][0] == precisions.argmin()
        assert (precisions < precisions[by_kind["median"][0]]).sum() in (99, 100)
    if most == 500:
        assert {labels[place] for _, place in chosen} == set(range(40))
        assert len(by_kind["best"]) == len(by_kind["worst"]) == pictures.EACH


def test_classes_that_are_all_alike_have_no_correlation_with_language():
    rows, labels = torch.ones(12, 4), torch.arange(12) // 3
    names, texts = list("abcd"), torch.nn.functional.normalize(torch.eye(4, 5) + 0.1, dim=1)
    texts[0, 4] = 0.5
    found = pictures._similarities(rows, labels, names, texts)
    assert found is not None and found.correlation is None
    found = pictures._similarities(torch.randn(12, 4), labels, names, texts)
    assert found is not None and -1 <= found.correlation <= 1


def test_queries_inside_and_outside_of_a_small_gallery_find_all_others_of_it():
    rows = torch.nn.functional.normalize(torch.randn(6, 3), dim=1)
    gallery, queries = torch.tensor([0, 1, 2]), torch.tensor([1, 4, 5])
    found = pictures._neighbours(
        rows, Protocol(torch.zeros(6, dtype=torch.long), gallery=gallery), queries
    )
    for query, neighbours in zip(queries.tolist(), found):
        cosines = (rows @ rows[query]).tolist()
        others = sorted({0, 1, 2} - {query}, key=lambda row: -cosines[row])
        assert [row for row, _ in neighbours] == others
        assert [value for _, value in neighbours] == pytest.approx([cosines[o] for o in others])


def test_sixty_panels_of_photographs_fit():
    """Pictures of noise are larger than any photograph of that size."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 255, (56, 56, 3), dtype=np.uint8))
    noise = coarse.resize((300, 300), Image.Resampling.BICUBIC)
    address = pictures.encoded(noise).address
    assert 60 * 9 * len(address) < 4.6e6


def test_names_are_text_and_nothing_else(tmp_path, show):
    folder = made_up_runs.finished(
        tmp_path / "run",
        dataset=HOSTILE[0],
        group=HOSTILE[1],
        language_distill_w=1,
        facts={
            "host": HOSTILE[2],
            "device": "b\udcf6se",
            "command": f"python main.py {HOSTILE[5]}",
        },
    )
    with (folder / "class_texts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["class", "text"], *([name, name] for name in HOSTILE)])
    page, _ = show(folder)
    assert len(page.all("script")) == 1 and not page.all("img")
    rows = page.all("table", class_="texts")[0].all("tr")[1:]
    shown = [name.replace("\u202e", "\\u202e") for name in HOSTILE]
    assert [row.all("th")[0].text for row in rows] == shown
    assert [row.all("td")[0].text for row in rows] == shown
    assert HOSTILE[0] in page.all("title")[0].text
    whole = page.text
    assert "b\\xf6se" in whole and HOSTILE[2] in whole and f"main.py {HOSTILE[5]}" in whole


def test_undecodable_names_of_classes_are_shown(photos, run_folder, show, tmp_path):
    images = Path(shutil.copytree(photos, tmp_path / "photos")) / "birds" / "images"
    os.rename(os.fsencode(images / "Finch"), os.fsencode(images) + b"/Fi\xf6<b>nch")
    page, _ = show(run_folder, "--source_path", tmp_path / "photos")
    headings = [panel.all("h3")[0].text for panel in page.all("article", class_="panel")]
    assert {heading.split()[-1] for heading in headings} == {"Dove", "Egret", "Fi\\xf6<b>nch"}
    assert not page.all("b")


def test_a_run_that_has_not_ended_says_so(tmp_path, show):
    folder = made_up_runs.begun(tmp_path / "run", n_epochs=9)
    (folder / "log.txt").write_text("2026-11-26 10:00:01  main.py: the disk is full\n")
    page, _ = show(folder)
    head = page.all("header")[0].text
    assert "Not finished, 3 of 9 epochs done; the disk is full." in head
    cells = {
        row.all("th")[0].text: [cell.text for cell in row.all("td")]
        for table in page.all("table", class_="numbers")
        for row in table.all("tr")[1:]
    }
    assert cells["e_recall@1"] == ["0.5000 (epoch 2)", "0.3750 (epoch 3)"]
    assert cells["dists@intra"] == ["0.7000 (epoch 2)", "0.8000 (epoch 3)"]  # lower is better
    assert "no checkpoint" in page.text and "--config" in page.all("pre")[0].text


def test_a_run_that_has_only_begun_has_a_page(tmp_path, show):
    page, _ = show(made_up_runs.begun(tmp_path / "run", curves={}))
    assert "Nothing is recorded yet." in page.text and "No epoch is recorded." in page.text
    assert not reading.faults(page)


def test_charts_have_all_curves(tmp_path, show):
    asked = ["e_recall@1", "e_recall@2", "dists@intra"]
    page, _ = show(made_up_runs.finished(tmp_path / "run", evaluation_metrics=asked))
    charts = page.all("figure", class_="chart")
    titles = [chart.all("h3")[0].text for chart in charts]
    assert titles == [
        "e_recall, test",
        "dists, test",
        "Losses of the training",
        "Learning rates",
        "Training, seconds an epoch",
    ]
    readout = json.loads(charts[0].attributes["data-chart"])
    assert readout["cells"] == [["0.2500", "0.5000", "0.3750"], ["0.5000", "0.6250", "0.7500"]]
    names = [item.all("bdi")[0].text for item in charts[0].all("li")]
    assert names == ["e_recall@1", "e_recall@2"] and len(charts[0].all("table")) == 1


@pytest.mark.parametrize(
    "revision, said",
    [
        ("abc123-dirty", "had changes that no revision holds"),
        (None, "revision of the program is not known"),
    ],
)
def test_what_cannot_be_reproduced_is_told(tmp_path, show, revision, said):
    page, _ = show(made_up_runs.finished(tmp_path / "run", facts={"git_revision": revision}))
    assert said in page.text and "-dirty" not in page.all("pre")[0].text


@pytest.mark.parametrize(
    "ending, shown",
    [
        (" --completed --resume auto", ""),
        (" --resume 'my runs/a b' --lr 1", " --lr 1"),
        (" '--resume=my runs/it'\"'\"'s' --completed", ""),
        (" --resume=RUN --group 'a --completed b'", " --group 'a --completed b'"),
    ],
)
def test_a_run_that_went_on_is_reproduced_from_its_beginning(tmp_path, show, ending, shown):
    command = "python main.py --group g"
    facts = {"command": command + ending, "git_revision": "abc123"}
    page, _ = show(made_up_runs.finished(tmp_path / "run", facts=facts))
    assert page.all("pre")[0].text.endswith(f"requirements.sh {command}{shown}")


def test_classes_that_training_and_test_share_are_told(
    page_of_run, run_folder, photos, show, tmp_path
):
    assert "Classes of this split were not trained on." in page_of_run.read_text()
    own = tmp_path / "own"
    for part, names, numbers in (("train", "Dove Egret", (0, 1)), ("test", "Dove Finch", (2, 3))):
        for name in names.split():
            (own / part / name).mkdir(parents=True)
            for file in (f"{name}_{number}.png" for number in numbers):
                shutil.copy(photos / "birds" / "images" / name / file, own / part / name)
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    args = folder / "args.yaml"
    args.write_text(args.read_text().replace("dataset: birds", "dataset: folder"))
    facts = json.loads((folder / "results.json").read_text())
    facts["settings"]["dataset"] = "folder"
    (folder / "results.json").write_text(json.dumps(facts))
    page, _ = show(folder, "--source_path", own)
    assert "1 of the 2 classes of this split were trained on too, with other images." in page.text


def test_a_page_without_the_texts_of_classes_shows_retrieval(run_folder, show, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    facts = json.loads((folder / "results.json").read_text())
    facts["settings"]["class_text"] = "/gone.json"
    (folder / "results.json").write_text(json.dumps(facts))
    page, _ = show(folder)
    assert "Classes are not compared with language: --class_text /gone.json" in page.text
    assert page.all("article", class_="panel") and "could not be embedded" not in page.text


def test_a_page_tells_that_the_data_is_not_that_of_the_run(run_folder, show, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    last = sorted((tmp_path / "photos" / "birds" / "images").iterdir())[-1]
    sorted(last.iterdir())[0].unlink()
    page, _ = show(run_folder, "--source_path", tmp_path / "photos")
    assert "test split has 3 classes, 23 images (then 3, 24)" in page.text
    page, _ = show(run_folder)
    assert "not that of the run" not in page.text


def test_a_page_without_data_has_the_figures_of_the_run(run_folder, show, tmp_path):
    page, _ = show(run_folder, "--source_path", tmp_path)
    assert "Images could not be embedded for this page: " in page.text
    assert not page.all("article") and len(page.all("figure", class_="drawn")) == 3
    assert all(len(image.attributes["alt"]) > 50 for image in page.all("img"))
    assert not reading.faults(page)


def test_broken_records_of_a_run_end_in_a_sentence_or_a_page(run_folder, show, tmp_path, capsys):
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (folder / "Figures" / "projection.png").write_bytes(b"no picture")
    (folder / "class_texts.csv").write_bytes(b"\xff\xfe")
    (folder / "checkpoint_last.pth.tar").write_bytes(b"PK")
    page, _ = show(folder)
    assert "class_texts.csv cannot be read" in page.text and "could not be embedded" in page.text
    assert len(page.all("figure", class_="drawn")) == 2
    (folder / "CSV_Logs" / "Data_Train_loss.csv").write_text("epoch,loss\nx,1\n")
    assert report.main([str(folder), *QUICK]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "place, said", [("nowhere", "there is no such folder"), ("", "holds no run")]
)
def test_a_wrong_place_is_one_sentence(tmp_path, capsys, place, said):
    (tmp_path / "empty").mkdir()
    assert report.main([str(tmp_path / "empty" / place)]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_only_its_own_pages_are_written_anew(tmp_path, capsys):
    folder = made_up_runs.finished(tmp_path / "run")
    assert report.main([str(folder)]) == 0
    page = folder / "report.html"
    assert writing.MARK in page.read_text()[:200]
    assert report.main([str(folder)]) == 0
    page.write_text("<!doctype html><p>mine")
    capsys.readouterr()
    assert report.main([str(folder)]) == 2
    assert "is no page of this program" in capsys.readouterr().err
    assert page.read_text() == "<!doctype html><p>mine"
    assert report.main([str(folder), "--to", str(tmp_path / "missing" / "page.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.fixture
def several(tmp_path) -> Path:
    """Two groups of three seeds, of the first one run that has not ended."""
    random = np.random.default_rng(0)
    for group, gain in (("base", 0.0), ("<b>guided", 0.1)):
        for seed in range(3):
            recall = (random.uniform(0.4, 0.5, 4) + gain).tolist()
            curves = {
                "Test_embeds_e_recall": {"e_recall@1": recall},
                "Train_loss": {"loss": recall},
            }
            settings = {"dataset": "birds", "group": group, "seed": seed}
            settings["language_distill_w"] = 5 * (gain > 0)
            folder = tmp_path / "runs" / "birds" / f"{group[-4:]}_s{seed}"
            made_up_runs.finished(folder, curves, **settings)
    left = tmp_path / "runs" / "birds" / "base_s3"
    made_up_runs.begun(left, curves, **settings | {"seed": 3}, n_epochs=9)
    return tmp_path / "runs"


def of_caption(page: reading.Element, caption: str) -> list[list[str]]:
    """The cells of the table that has a caption."""
    (table,) = [t for t in page.all("table") if t.all("caption")[0].text == caption]
    rows = table.all("tr")
    return [[part.text for part in row.parts if isinstance(part, reading.Element)] for row in rows]


def test_several_runs_are_compared(several, show):
    page, said = show(several, "--baseline", "base")
    recalls = {
        folder.name: json.loads((folder / "results.json").read_text())["metrics"]["Test"]
        for folder in (several / "birds").iterdir()
        if (folder / "results.json").is_file()
    }
    best = {name: of["embeds_e_recall: e_recall@1"]["best"] for name, of in recalls.items()}
    by_group = [[100 * best[f"{name}_s{seed}"] for seed in range(3)] for name in ("base", "ided")]
    header, *rows = of_caption(page, "e_recall@1 (%)")
    assert header == ["group", "best", "last", "beside base", "seeds"]
    assert [row[0] for row in rows] == ["base", "<b>guided"] and not page.all("b")
    for row, values in zip(rows, by_group):
        assert row[4] == "3 (0, 1, 2)"
        assert row[1] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    difference = np.mean(np.subtract(*by_group[::-1]))
    assert rows[1][3].startswith(f"{difference:+.2f} [") and not rows[0][3]
    assert of_caption(page, "Settings in which the groups differ")[1][0] == "--language_distill_w"
    assert "7 runs" in said and len(page.all("details", class_="run")) == 7
    assert "base_s3" in page.all("section")[1].text  # left out
    assert not reading.faults(page)


def test_curves_of_groups_have_bands(several, show):
    page, _ = show(several, "--baseline", "base")
    (chart,) = page.all("figure", class_="chart")
    assert len(chart.all("path", class_="band s0")) == len(chart.all("path", class_="band s1")) == 1
    tables = [several / "birds" / f"base_s{seed}" / "CSV_Logs" for seed in range(3)]
    text_of = [(table / "Data_Test_embeds_e_recall.csv").read_text() for table in tables]
    firsts = [100 * float(lines.splitlines()[1].split(",")[1]) for lines in text_of]
    mean, deviation = np.mean(firsts), np.std(firsts, ddof=1)
    cell = json.loads(chart.attributes["data-chart"])["cells"][0][0]
    ends = (text.number(mean + sign * deviation) for sign in (-1, 1))
    assert cell == f"{text.number(mean)} ({' to '.join(ends)})"


def test_runs_of_which_none_has_ended_are_listed(tmp_path, show):
    for seed in range(2):
        made_up_runs.begun(tmp_path / "runs" / f"a_s{seed}", seed=seed, n_epochs=5)
    page, _ = show(tmp_path / "runs")
    assert "There is no finished run to compare." in page.all("header")[0].text
    states = [part.all("p", class_="state")[0].text for part in page.all("details", class_="run")]
    assert states == ["Not finished, 3 of 5 epochs done."] * 2 and not reading.faults(page)


def test_damaged_runs_beside_others_are_told(several, show, capsys):
    (several / "birds" / "ided_s1" / "results.json").write_text("{")
    (several / "birds" / "ided_s2" / "args.yaml").write_bytes(b"\xff{")
    (several / "birds" / "ided_s2" / "results.json").unlink()
    (several / "birds" / "base_s3" / "CSV_Logs" / "Data_Train_loss.csv").write_text(
        "epoch,loss\nx,1"
    )
    page, _ = show(several)
    whole = page.text
    assert "Its records cannot be read." in whole and "args.yaml" in whole
    assert len(page.all("details", class_="run")) == 7
    assert of_caption(page, "e_recall@1 (%)")[1:]  # the others are compared
    assert report.main([str(several), "--baseline", "nobody"]) == 2
    assert "There is no group nobody" in capsys.readouterr().err


def test_colours_can_be_read():
    """WCAG 2.2, level AA: 4.5 for text, 3 for lines and frames, in every scheme."""
    style = (writing.TEMPLATES / "page.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", scheme))
        for name in ("ink", "quiet", "link", "right", "wrong", "sign"):
            for ground in ("ground", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for line in range(8):
            assert contrast(colours[f"s{line}"], colours["ground"]) >= 3, line


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_records_of_other_programs_are_a_page(tmp_path):
    settings = {"evaluation_metrics": [{}]}
    run = made_runs.make_run(
        tmp_path,
        "base",
        0,
        facts={"epochs": "ten", "seconds": "long", "images_left_out": 7},
        **settings,
    )
    assert report.main([str(run), "--panels", "0"]) == 0


def test_flags_without_effect_are_refused(tmp_path, capsys):
    runs = [made_runs.make_run(tmp_path / "runs", "base", seed) for seed in range(2)]
    assert report.main([str(runs[0]), "--baseline", "base"]) == 2
    assert "--baseline is for several runs" in capsys.readouterr().err
    assert report.main([str(tmp_path / "runs"), "--panels", "3"]) == 2
    assert "holds 2 runs; leave it out" in capsys.readouterr().err
    assert report.main([str(tmp_path / "runs"), "--panels", "0"]) == 0
