"""Names and limits that the command lines tell and the work behind them keeps.

Imports nothing, for the sake of `--help`.
"""

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16", "fp16")
EVALTYPES = ("embeds", "avg_features")
EMBEDDING_FILES = (".npz", ".parquet")
SHARD_FOLDERS = ("", ".shards")  # endings of a folder of shards
GALLERY = "gallery.json"  # what a folder of shards was made from
INDEX_KINDS = ("auto", "flat", "ivf", "hnsw", "pq")
MODEL_FORMATS = ("onnx", "torch", "hub")
SAVED_INDEX = "embeddings.npz"  # in a saved index; an exact flat index is its rows
PREPROCESSING = "preprocessing.json"
CHECKED_IMAGES = 64  # at most, of an export
# Of what an export may differ by, as a share of the largest number in the embeddings.
TOLERANCE = 1e-4
DRAWN_QUERIES = 25  # at most, in a picture
SPLITS = ("Test", "Val", "Train")
VALUES = ("best", "at_best_val", "last")  # of a metric of a run
COMPARISON_FILES = {
    ".txt": "text",
    ".md": "markdown",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
}
CURVE_FILES = (".pdf", ".svg", ".png")
