"""Comparisons as documents: what they say, how wide they are, what is escaped in them."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from made_runs import MAP, R1, make_run, unfinished

from programs.results import numbers, tables
from programs.results.comparison import Comparison, compare
from programs.results.metric_names import named_by
from programs.results.runs import find
from programs.results.statistics import Paired, Spread
from utilities.report import WIDTH

ODD = "a_b*c $x$ | 100% & #1 {y} ~ ^ \\ <z> `q` [w]"


@pytest.fixture
def compared(tmp_path) -> Comparison:
    for seed in range(3):
        make_run(tmp_path, "base", seed, {R1: [0.5 + seed / 100, 0.4], MAP: [0.25]})
        flags = {"language_distill_w": 10.0, "language_pseudoclass": True}
        make_run(tmp_path, ODD.replace("/", ""), seed, {R1: [0.6, 0.6], MAP: [0.25]}, **flags)
    unfinished(make_run(tmp_path, "base", 3))
    return compare(find([tmp_path]), "base")


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_text_has_all_numbers_and_remarks(compared):
    text = tables.text(compared, seeds_shown=True)
    lines = text.split("\n")
    assert "shapes, Test" in lines
    title, base = (next(line for line in lines if line.startswith(name)) for name in ("e_", "base"))
    assert cells(title) == ["e_recall@1 (%)", "n", "best", "last", "difference", "pairs"]
    assert cells(base) == ["base", "3", "51.0 ± 1.0", "40.0 ± 0.0", "baseline"]
    odd = next(line for line in lines if line.startswith(ODD))
    assert odd.endswith("3  60.0 ± 0.0  60.0 ± 0.0  +9.00 [+6.52, +11.48]  3")
    assert "    best of seed 0: 50.0, seed 1: 51.0, seed 2: 52.0" in lines
    assert "  base: --language_distill_w 0" in lines
    assert f"  {ODD}: --language_distill_w 10  --language_pseudoclass" in lines
    assert "best minus that of base" in text and "95% interval" in text
    assert (
        "not finished" in " ".join(text.split())
        and "of all epochs, chosen on the split itself" in text
    )
    assert "seed 0:" not in tables.text(compared)


@pytest.mark.parametrize("length", [5, 40, 60, 230])
@pytest.mark.parametrize("validation", [None, 1])
def test_text_fits_the_columns_whatever_the_names(tmp_path, length, validation):
    name = ("long_name-" * 23)[:length]
    for seed in range(12):
        curves = {R1: [0.5], "embeds_dists: dists@intra_over_inter": [0.123456 + seed]}
        make_run(tmp_path, "base", seed, curves, best_val=validation)
        curves = {key: [value[0] * 1.0123] for key, value in curves.items()}
        make_run(tmp_path, name, seed, curves, best_val=validation, lr=0.1)
    asked = ["e_recall@1", "dists@intra_over_inter"]
    text = tables.text(compare(find([tmp_path]), "base", asked), seeds_shown=True)
    assert max(map(len, text.split("\n"))) <= WIDTH
    assert name in re.sub(r"\n *", "", text).replace(" ", "")
    assert "dists@intra_over_inter" in text


def test_published_numbers_stand_beside(tmp_path):
    make_run(tmp_path, "a", 0, {R1: [0.5]}, dataset="cub200", loss="multisimilarity")
    make_run(tmp_path, "b", 0, {R1: [0.5]}, dataset="cub200", loss="triplet")
    text = tables.text(compare(find([tmp_path])))
    a, b = (next(line for line in text.split("\n") if line.startswith(name)) for name in "ab")
    assert cells(a)[-1] == "62.8 ± 0.2" and cells(b) == ["b", "1", "50.0", "50.0"]
    assert "Published: Roth et al., CVPR 2022" in text


def test_markdown_has_a_row_for_each_group_and_metric(compared):
    lines = tables.markdown(compared, seeds_shown=True).split("\n")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| ")]
    assert {len(row) for row in rows} == {len(rows[0])} == {11} and len(rows) == 1 + 2 * 2
    assert [cell.strip() for cell in rows[1]] == (
        ["base", r"e\_recall@1 (%)", "3", "50.0", "51.0", "52.0"]
        + ["51.0 ± 1.0", "40.0 ± 0.0", "baseline", "", "`--language_distill_w 0`"]
    )
    assert any(line.startswith("- ") and "not finished" in line for line in lines)


def test_names_are_escaped_in_markdown():
    escaped = tables.in_markdown(ODD)
    assert re.sub(r"\\(.)", r"\1", escaped) == ODD
    assert not re.search(r"(?<!\\)[_*$|&#{}~<>`\[\]]", re.sub(r"\\\\", "", escaped))
    assert tables.in_markdown("a\nb\x1b") == r"a\\nb\\x1b"


@pytest.mark.parametrize("words", ["--x '`a` | b'", "--x ``", "--x a|b", "--x a"])
def test_settings_are_code_in_markdown(words):
    code = tables.as_code(words)
    fence = re.match("`+", code)
    assert fence and code.endswith(fence[0]) and fence[0] not in code.strip("`")
    assert code.strip("` ") in words and tables.as_code(f"{words}\n") == tables.as_code(
        f"{words}\\n"
    )


def test_names_are_escaped_in_latex():
    assert tables.in_latex("a_b $|&% 100") == r"a\_b \$\textbar{}\&\% 100"
    assert tables.in_latex("\\{}^~<>#") == (
        r"\textbackslash{}\{\}\textasciicircum{}\textasciitilde{}\textless{}\textgreater{}\#"
    )
    assert tables.in_latex("[1em]") == "{}[1em]" and tables.in_latex("*") == "{}*"
    assert tables.in_latex("a\nb") == r"a\textbackslash{}nb"


def test_latex_has_a_row_for_each_group(compared):
    latex = tables.latex(compared)
    inside = latex[latex.index(r"\begin{tabular}") : latex.index(r"\end{tabular}")]
    rows = [line for line in inside.split("\n") if line.endswith(r"\\")]
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {6} and len(rows) == 3
    assert rows[1].startswith(r"base & 3 & 51.0 $\pm$ 1.0 & baseline & 25.0")
    assert "{lrrrrr}" in inside and r"\textbar{} 100\% \& \#1" in rows[2]
    outside = latex.replace(inside + r"\end{tabular}", "")
    assert all(line.startswith("%") for line in outside.split("\n") if line)
    assert "% shapes, Test" in outside and "not finished" in outside


def test_latex_counts_values_and_not_runs(tmp_path):
    for seed in range(3):
        for group in "ab":
            some = [] if group == "a" and seed == 0 else [0.5]
            curves = {R1: [0.5], "embeds_nmi: nmi": some, "embeds_f1: f1": some}
            make_run(tmp_path, group, seed, curves)
    make_run(tmp_path, "c", 0, {R1: [0.5]})
    latex = tables.latex(compare(find([tmp_path]), metrics=["e_recall@1", "nmi", "f1"]))
    rows = [re.split(r" & | \\\\", line)[:-1] for line in latex.split("\n") if " & " in line]
    assert rows == [
        ["", "n", r"e\_recall@1 (\%)", "n", r"nmi (\%)", r"f1 (\%)"],
        ["a", "3", r"50.0 $\pm$ 0.0", "2", *[r"50.0 $\pm$ 0.0"] * 2],
        ["b", "3", r"50.0 $\pm$ 0.0", "3", *[r"50.0 $\pm$ 0.0"] * 2],
        ["c", "1", "50.0", "-", "-", "-"],
    ]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX on this machine")
def test_latex_is_set(compared, tmp_path):
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "a.tex").write_text(f"{head}\n{tables.latex(compared)}\\end{{document}}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_json_has_all_numbers(compared):
    document = json.loads(tables.document(compared, "json"))
    base, odd = document["groups"]
    assert odd["group"] == ODD and base["dataset"] == "shapes"
    recall = base["metrics"]["e_recall@1"]
    assert recall["key"] == R1 and recall["is_share"] and not recall["lower_is_better"]
    assert recall["best"] == {
        "n": 3,
        "mean": pytest.approx(0.51),
        "std": pytest.approx(0.01),
        "values": {"0": 0.5, "1": 0.51, "2": 0.52},
    }
    difference = odd["metrics"]["e_recall@1"]["difference"]
    assert difference["seeds"] == [0, 1, 2] and len(difference["interval"]) == 2
    assert document["left_out"] == compared.left_out and document["value"] == "best"
    assert set(base["runs"]) == {"0", "1", "2"} and base["settings"] == {
        "language_distill_w": "0",
        "language_pseudoclass": "",
    }


def test_csv_has_all_numbers(compared):
    rows = list(csv.DictReader(io.StringIO(tables.document(compared, "csv"))))
    assert len(rows) == 2 * 2 * 2
    best, last = (row for row in rows if row["group"] == ODD and row["metric"] == "e_recall@1")
    assert (best["value"], last["value"]) == ("best", "last")
    assert float(best["mean"]) == pytest.approx(0.6) and best["seed 2"] == "0.6"
    assert float(best["difference"]) == pytest.approx(0.09) and best["pairs"] == "3"
    assert float(best["low"]) < 0.09 < float(best["high"])
    assert last["difference"] == last["low"] == last["pairs"] == ""


@pytest.mark.parametrize("form", [*tables.FOR_PEOPLE, *tables.FOR_PROGRAMS])
def test_one_run_of_bytes_that_are_no_text_is_a_document(tmp_path, form):
    make_run(tmp_path, "a\udcf6b", 0, {R1: [0.5]})
    (unfinished(make_run(tmp_path, "a\udcf6b", 1)) / "args.yaml").write_text("[")
    compared = compare(find([tmp_path]))
    assert len(compared.left_out) == 1
    document = tables.document(compared, form)
    assert document.encode() and "NaN" not in document and "udcf6b" in document


@pytest.mark.parametrize(
    "key, mean, spread, difference",
    [
        (R1, "12.3", "12.3 ± 1.2", "-0.10 [-0.25, +0.05]"),
        ("loss", "0.1234", "0.1234 ± 0.012", "-0.001 [-0.0025, +0.0005]"),
    ],
)
def test_shares_are_percent_and_others_are_not(key, mean, spread, difference):
    metric = named_by(key)
    assert numbers.value(metric, 0.12344) == mean
    assert numbers.spread(metric, Spread(1, 0.12344, None)) == mean
    assert numbers.spread(metric, Spread(2, 0.12344, 0.0123)) == spread
    paired = Paired((0, 1), -0.001, (-0.0025, 0.0005))
    assert numbers.difference(metric, paired) == difference
    assert numbers.difference(metric, Paired((0,), -0.001, None)) == difference.split()[0]
    assert numbers.spread(metric, None) == numbers.difference(metric, None) == "-"


def test_lower_is_better_is_said():
    assert numbers.title(named_by("loss")) == "loss, lower is better"
    assert numbers.title(named_by(R1)) == "e_recall@1 (%)"
