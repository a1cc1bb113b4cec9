"""How alike the demo's classes are: by pseudolabels, names, attributes and the trunk's features.

    python benchmarks/language/demo_similarities.py

The classes are those that train while the demo is tuned (benchmarks/demo_tuning.yaml): the test
classes are not looked at. Printed are the pseudolabels that most classes have, and the rank
correlations (Spearman) over all pairs of classes.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import build
import parameters
from datasets import ImageSplit, shapes
from evaluation.embedding import embed
from language_guidance import agreement
from utilities.runtime import Runtime

TUNING = "--use_tv_split --tv_split_perc 0.7 --no_test_metrics --device cpu"
READ = {
    "pseudolabels (top 5)": "",
    "pseudolabels (top 1)": "--language_pseudoclass_topk 1",
    "pseudolabels (top 20)": "--language_pseudoclass_topk 20",
    "pseudolabels (mean of probabilities)": "--language_pseudoclass_mean probabilities",
    "names": "--language_pseudoclass_share 0",
}
SHOWN = 3  # of the most frequent pseudolabels


def settings_of(source_path: str, further: str = "") -> parameters.Settings:
    places = ["--config", str(ROOT / "configs" / "demo.yaml"), "--source_path", source_path]
    return parameters.parse([*places, *TUNING.split(), *further.split()])


def by_attributes(names: list[str]) -> torch.Tensor:
    """[C, C], in how many of tone, colour, pattern and shape two classes agree."""
    looks = {look.name: look for look in shapes.class_looks()}
    values = [list(looks[name]) for name in names]
    return torch.tensor(
        [[sum(map(str.__eq__, one, other)) for other in values] for one in values]
    ).double()


def by_features(
    settings: parameters.Settings, training: ImageSplit, runtime: Runtime
) -> torch.Tensor:
    """[C, C], cosine of the classes' mean features, by the trunk that the demo starts from."""
    network, transform = build.build_network(settings, runtime, load_weights=True)
    batches = build.in_order(settings, training.with_transform(transform.evaluation), runtime)
    kinds = ["avg_features"]
    features = embed(network, batches, count=len(training), evaltypes=kinds, runtime=runtime)
    labels = torch.from_numpy(training.labels)
    sums = torch.zeros(len(training.class_texts), features["avg_features"].shape[1])
    sums.index_add_(0, labels, features["avg_features"])
    unit = torch.nn.functional.normalize(sums, dim=1)
    return (unit @ unit.T).double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_path", default="Datasets")
    source_path = parser.parse_args().source_path
    settings = settings_of(source_path)
    runtime = build.build_runtime(settings)
    training = build.build_splits(settings)[0].training
    similarities = {}
    for kind, further in READ.items():
        guidance = build.build_guidance(settings_of(source_path, further), training, runtime)
        assert guidance is not None
        view = build.language_view(training, guidance)
        similarities[kind] = torch.from_numpy(view.similarities).double()
        if len(similarities) == 1:
            tell_pseudolabels(guidance.texts, len(training))
    similarities["attributes in common"] = by_attributes(list(training.class_texts))
    similarities["features of the trunk"] = by_features(settings, training, runtime)
    print(f"\n| {' | '.join(['', *similarities])} |\n{'|---' * (len(similarities) + 1)}|")
    for kind, own in similarities.items():
        row = [f"{agreement(own, other).correlation:.2f}" for other in similarities.values()]
        print(f"| {' | '.join([kind, *row])} |")


def tell_pseudolabels(texts: list[list[str]], images: int) -> None:
    counts = Counter(text for of_class in texts for text in of_class)
    most = ", ".join(f"{text} ({count})" for text, count in counts.most_common(SHOWN))
    print(
        f"{len(texts)} classes, {images} images: {len(counts)} names among their pseudolabels, "
        f"most often {most}"
    )


if __name__ == "__main__":
    main()
