"""The benchmark of galleries runs, at its smallest."""

from benchmark_scripts import smoke

KINDS = ("flat", "ivf", "hnsw", "pq")


def test_each_index_is_measured_beside_faiss(tmp_path):
    rows = smoke("galleries/indices.py", tmp_path).strip().splitlines()[-2 * len(KINDS) :]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:2] for row in cells] == [
        [kind, way] for kind in KINDS for way in ("plain", "ours")
    ]
    recalls = {(kind, way): float(others[-1]) for kind, way, *others in cells}
    assert recalls["flat", "ours"] == 1
    assert all(recalls[kind, "ours"] >= recalls[kind, "plain"] > 0.5 for kind in KINDS)
