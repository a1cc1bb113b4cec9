"""The benchmark of an evaluation runs, at its smallest."""

from benchmark_scripts import smoke

ROWS = {
    "floor",
    "faiss_flat",
    "ours",
    "ours_with_faiss",
    "ours_full_map",
    "kmeans_faiss",
    "kmeans_torch",
}


def tables(text: str) -> list[dict[str, list[str]]]:
    """Of each Markdown table the cells of its rows by their first cell, without the header."""
    found: list[dict[str, list[str]]] = []
    for block in text.split("\n\n"):
        if block.lstrip().startswith("|"):
            _, _, *rows = block.strip().splitlines()
            cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
            found.append({first: others for first, *others in cells})
    return found


def test_the_scale_of_an_evaluation_at_its_smallest(tmp_path):
    output = smoke("evaluation/scale.py", tmp_path)
    comparison, growth = tables(output)
    assert set(comparison) == ROWS
    for name, (seconds, *_, peak_mb) in comparison.items():
        assert float(seconds) >= 0 and float(peak_mb) >= 0, name
    assert list(growth) == ["100", "200", "400"]
    assert all(cells[-1] == "yes" for cells in growth.values())
    values = {line.split(":")[0]: line for line in output.splitlines() if ": " in line}
    assert values["ours"].split(":")[1] == values["ours_with_faiss"].split(":")[1]
