"""The version that `--version` and results.json state."""

NAME = "language-guided-dml"
VERSION = "1.0.0"
