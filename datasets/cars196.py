"""Stanford Cars (Krause et al. 2013): makes, models and years; classes 1-98 train, 99-196 test.

The classification split into cars_train and cars_test is another one: all images of a class are on
one side here.
"""

from datasets.benchmark import Benchmark
from datasets.folder import read_classes as read

FACTS = Benchmark(
    counts={"train": (98, 8_054), "test": (98, 8_131)},
    source=(
        "a mirror, because the authors' page is gone since 2023; any of these does: "
        "car_ims with cars_annos.mat, cars_train and cars_test with the "
        "devkit and cars_test_annos_withlabels.mat, or images in a folder per class"
    ),
    files={
        "car_ims.tgz": "d5c8f0aa497503f355e17dc7886c3f14",
        "cars_annos.mat": "b407c6086d669747186bd1d764ff9dbc",
        "cars_train.tgz": "065e5b463ae28d29e77c1b4b166cfe61",
        "cars_test.tgz": "4ce7ebf6a94d07f1952d94dd34c4d501",
        "car_devkit.tgz": "c3b158d763b6e2245038c8ad08e45376",
        "cars_test_annos_withlabels.mat": "b0a2b23655a3edd16d84508592a98d10",
    },
)

__all__ = ["FACTS", "read"]
