"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011): species; classes 1-100 train, 101-200 test."""

from datasets.benchmark import Benchmark
from datasets.folder import read_classes as read

FACTS = Benchmark(
    counts={"train": (100, 5_864), "test": (100, 5_924)},
    source="https://data.caltech.edu/records/65de6-vp158",
    url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    files={"CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78"},
)

__all__ = ["FACTS", "read"]
