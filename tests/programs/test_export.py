"""python -m programs.export: the same embeddings without this program."""

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import by_hand
import numpy as np
import pytest
import torch
from PIL import Image

from datasets import transforms
from datasets.decoding import orientation_tag
from programs import export, hub_folder, model_file, trained
from programs.constants import MODEL_FORMATS


def by_the_description(folder: Path, image: Path) -> np.ndarray:
    """What the lines of preprocessing.json give, which use nothing of this repository."""
    lines = json.loads((folder / "preprocessing.json").read_text())["usage"]
    names: dict = {}
    exec("\n".join(lines).replace("image.jpg", str(image)), names)
    return names["embeddings"]


@pytest.mark.parametrize(
    "arch, file_format, flags",
    [
        ("test_resnet_frozen_double_normalize", "onnx", {}),
        ("test_vit_double", "onnx", {}),
        ("test_vit_normalize", "torch", {"interpolation": "bicubic"}),
        ("test_resnet_double", "torch", {"augmentation": "big"}),
        ("test_resnet_normalize", "hub", {"exif_orientation": "apply"}),
        ("test_resnet_normalize", "hub", {"exif_orientation": "ignore"}),
        ("test_resnet_double_normalize", "hub", {}),
        ("test_vit_normalize", "hub", {"interpolation": "bicubic"}),
    ],
)
def test_the_file_and_its_description_give_the_checkpoints_embeddings(
    photos, make_checkpoint, tmp_path, capsys, monkeypatch, arch, file_format, flags
):
    checkpoint, target = make_checkpoint(arch, **flags), tmp_path / "exported"
    places = ["--to", str(target), "--check", str(photos / "birds")]
    assert export.main([str(checkpoint), *places, "--format", file_format]) == 0
    assert "own embeddings of 48 images" in capsys.readouterr().err
    file = model_file.FORMATS[file_format].file
    beside = ["README.md", "config.json"] if file_format == "hub" else []
    written = [file, "preprocessing.json", *beside]
    assert sorted(path.name for path in target.iterdir()) == sorted(written)
    image = tmp_path / "turned.png"
    with Image.open(next(photos.rglob("*.png"))) as upright:
        upright.save(image, exif=orientation_tag(6))
    monkeypatch.chdir(target)
    expected, given = by_hand.embeddings(checkpoint, [image]), by_the_description(target, image)
    # Pillow resizes to within one level of 255 of the loader.
    assert np.abs(given - expected).max() <= 1e-2 * np.abs(expected).max()
    described = json.loads((target / "preprocessing.json").read_text())
    assert described["exif_orientation"] == flags.get("exif_orientation", "apply")
    interpolation = flags.get("interpolation", "bilinear")
    assert described["interpolation"] == f"{interpolation}, antialiased"
    if file_format == "hub":
        configuration = json.loads((target / "config.json").read_text())
        assert configuration["pretrained_cfg"]["interpolation"] == interpolation
    output = described["output"]
    assert output["shape"] == ["batch", 12] and output["unit_length"] == arch.endswith("normalize")
    shape = (5, *described["input"]["shape"][1:])  # a batch of another size
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    network = trained.load(checkpoint, "cpu").network
    with torch.no_grad():
        batch = network(torch.from_numpy(images)).embeddings.numpy()
    np.testing.assert_allclose(
        model_file.FORMATS[file_format].open(target / file)(images),
        batch,
        atol=1e-5 * np.abs(batch).max(),
    )


@pytest.fixture
def instant(monkeypatch):
    """A format that takes no time, and may be wrong."""
    loaded = {}
    load = trained.load

    def remember(*arguments):
        loaded["network"] = load(*arguments)
        return loaded["network"]

    def use(factor: float) -> None:
        def embed(images: np.ndarray) -> np.ndarray:
            output = loaded["network"].network(torch.from_numpy(images))
            return factor * output.embeddings.detach().numpy()

        def write(model, images, file: Path) -> None:
            file.write_text("model")

        fast = model_file.FORMATS["torch"]._replace(write=write, open=lambda file: embed)
        monkeypatch.setitem(model_file.FORMATS, "torch", fast)

    monkeypatch.setattr(trained, "load", remember)
    return use


@pytest.mark.parametrize(
    "factor, status, part",
    [
        (1, 0, "checked, largest difference"),
        (1 + 1e-3, 2, "wrong and was not kept"),
        (float("nan"), 2, "wrong and was not kept"),
    ],
)
def test_a_wrong_model_is_not_kept(
    photos, make_checkpoint, instant, tmp_path, capsys, factor, status, part
):
    instant(factor)
    target = tmp_path / "exported"
    checkpoint = str(make_checkpoint("test_resnet_normalize"))
    flags = ["--to", str(target), "--format", "torch", "--check", str(photos)]
    assert export.main([checkpoint, *flags]) == status
    assert part in capsys.readouterr().err.splitlines()[-1]
    assert not target.exists() if status else len(list(target.iterdir())) == 2


def test_broken_images_are_no_part_of_the_check(photos, make_checkpoint, instant, tmp_path, capsys):
    instant(1)
    (tmp_path / "broken.png").write_bytes(b"broken")
    checkpoint = str(make_checkpoint("test_resnet_normalize"))
    flags = ["--to", str(tmp_path / "exported"), "--format", "torch"]
    command = [checkpoint, *flags, "--check", str(tmp_path / "broken.png")]
    assert (
        export.main(command) == 2
        and "--check: none of the 1 images can be read" in capsys.readouterr().err
    )
    assert (
        export.main([*command, str(photos)]) == 0
        and "own embeddings of 48 images" in capsys.readouterr().err
    )


def test_it_says_when_nothing_was_checked(make_checkpoint, instant, tmp_path, capsys):
    instant(1)
    checkpoint = str(make_checkpoint("test_resnet_normalize"))
    assert export.main([checkpoint, "--to", str(tmp_path / "exported"), "--format", "torch"]) == 0
    assert "not checked (--check FOLDER" in capsys.readouterr().err


def test_wrong_places_are_a_sentence(make_checkpoint, tmp_path, capsys):
    checkpoint = str(make_checkpoint("test_resnet_normalize"))
    assert export.main([checkpoint, "--to", checkpoint]) == 2
    assert f"--to {checkpoint}: it is a file, not a folder." in capsys.readouterr().err
    assert export.main([checkpoint, "--to", str(tmp_path / "x"), "--check", "no.png"]) == 2
    assert (
        "python -m programs.export: error: --check no.png: there is no such image"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("file_format", MODEL_FORMATS)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    make_checkpoint, small_files, tmp_path, capsys, file_format
):
    checkpoint, target = str(make_checkpoint("test_resnet_normalize")), tmp_path / "new" / "one"
    with small_files():
        status = export.main([checkpoint, "--to", str(target), "--format", file_format])
    message = capsys.readouterr().err.splitlines()[-1]
    assert status == 2 and f"--to {target} cannot be written (" in message
    assert message.endswith("is the disk full?") and not target.parent.exists()


def test_files_of_something_else_are_not_replaced(make_checkpoint, instant, tmp_path, capsys):
    """A README.md that the card would replace, and the model of another checkpoint."""
    instant(1)
    target = tmp_path / "repository"
    target.mkdir()
    (target / "README.md").write_text("mine")
    first = str(make_checkpoint("test_resnet_normalize"))
    command = ["--to", str(target), "--format"]
    assert export.main([first, *command, "hub"]) == 2
    assert f"--to {target} holds README.md already" in capsys.readouterr().err
    assert [file.name for file in target.iterdir()] == ["README.md"]
    assert export.main([first, *command, "torch"]) == 0
    assert export.main([first, *command, "torch"]) == 0
    assert export.main([first, *command, "hub"]) == 2  # what the card would replace is not ours
    assert f"--to {target} holds README.md already" in capsys.readouterr().err
    other = str(make_checkpoint("test_resnet_normalize", embed_dim=5))
    assert export.main([other, *command, "torch"]) == 2
    assert "holds model.pt2, preprocessing.json already, and nothing" in capsys.readouterr().err
    assert (target / "README.md").read_text() == "mine"


def test_what_an_export_in_another_format_made_is_not_said_to_be_of_another_checkpoint(
    make_checkpoint, instant, tmp_path, capsys
):
    instant(1)
    command = [str(make_checkpoint("test_resnet_normalize")), "--to", str(tmp_path / "exported")]
    assert export.main([*command, "--format", "hub"]) == 0
    assert export.main([*command, "--format", "torch"]) == 0
    assert export.main([*command, "--format", "hub"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "already, and nothing there says that they are an export of this checkpoint in" in said


def test_onnx_of_a_real_network_on_real_images(assets, tmp_path, make_checkpoint, capsys):
    with tarfile.open(assets / "cifar100.tar.gz") as archive:
        two_classes = [
            member
            for member in archive
            if member.isfile() and Path(member.name).parent.name[:3] in ("001", "100")
        ]
        archive.extractall(tmp_path, members=two_classes, filter="data")
    checkpoint = make_checkpoint(
        "mobilenetv2_100_frozen_normalize",
        image_size=96,
        arch_weights=str(assets / "mobilenetv2_100_imagenet1k.safetensors"),
    )
    places = ["--to", str(tmp_path / "exported"), "--check", str(tmp_path / "cifar100")]
    assert export.main([str(checkpoint), *places]) == 0
    assert "own embeddings of 64 images" in capsys.readouterr().err


def test_onnx_of_one_batch_size_is_refused(make_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(model_file, "_any_batch", lambda: None)
    flags = [str(make_checkpoint("test_resnet")), "--to", str(tmp_path / "exported")]
    assert export.main(flags) == 2
    why = "torch cannot export test_resnet (it would take batches of 2 images only)"
    assert why in capsys.readouterr().err and not (tmp_path / "exported").exists()


def test_the_formats_of_the_command_line_are_those_that_can_be_written():
    assert tuple(model_file.FORMATS) == MODEL_FORMATS


def test_a_network_that_gives_no_numbers_is_not_exported(photos, run_folder, tmp_path, capsys):
    state = torch.load(run_folder / "checkpoint_last.pth.tar", weights_only=True)
    state["state_dict"]["head.weight"][:] = torch.nan
    torch.save(state, tmp_path / "diverged.pth.tar")
    target = tmp_path / "exported"
    flags = ["--to", str(target), "--format", "torch", "--check", str(photos)]
    assert export.main([str(tmp_path / "diverged.pth.tar"), *flags]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "is not finite" in message and "earlier checkpoint" in message
    assert not target.exists()
    assert export.main([str(tmp_path / "diverged.pth.tar"), *flags[:4]]) == 2
    assert "head.weight are not finite" in capsys.readouterr().err
    assert not target.exists()


# A folder for the hub.


def test_a_folder_of_the_hub_tells_of_its_run(run_folder, tmp_path, capsys):
    target = tmp_path / "folder"
    command = [str(run_folder), "--to", str(target), "--format", "hub", "--license", "apache-2.0"]
    assert export.main(command) == 0
    assert len({file.stat().st_mode for file in target.iterdir()}) == 1  # readable to others
    card = (target / "README.md").read_text()
    results = json.loads((run_folder / "results.json").read_text())
    best = results["metrics"]["Test"]["embeds_e_recall: e_recall@1"]["best"]
    assert card.startswith("---\nlibrary_name: timm\n") and "license: apache-2.0" in card
    assert f"| {best:.4f} (" in card
    assert hub_folder.without_folders(results["command"]) in card and str(tmp_path) not in card
    assert results["settings"]["save_path"] not in card
    assert "guided by class names through minilm" in card and "- Training data: birds," in card


def odd_results(name: str, results: dict) -> dict:
    """results.json with a fact that a run does not write so, or without it."""
    odd: dict = {
        "data": None,
        "command": "main.py --group '`x``\n# y|'",
        "dataset": 7,
        "metrics": {},
    }
    if name.startswith("no "):
        return {key: value for key, value in results.items() if key != name.removeprefix("no ")}
    return results | {name: odd[name]}


@pytest.mark.parametrize(
    "fact",
    ["no command", "no dataset", "no metrics", "no data", "data", "command", "dataset", "metrics"],
)
def test_the_card_tells_what_results_hold(run_folder, tmp_path, fact):
    written = json.loads((run_folder / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(odd_results(fact, written)))
    network = trained.load(run_folder, "cpu")
    card = hub_folder.card(tmp_path / "checkpoint_last.pth.tar", network, "other")
    assert card.startswith("---\n") and "## Where it comes from" in card
    assert ("- Command: " in card) == (fact not in ("no command", "no metrics"))
    assert ("## Results on the test split of birds" in card) == ("metrics" not in fact)
    counted = fact not in ("no data", "data", "no metrics")
    assert ("- Training data: birds, 3 classes, 24 images." in card) == counted
    if fact == "command":
        assert r"- Command: ``` main.py --group '`x``\n# y|' ```" in card.splitlines()


def test_the_card_of_a_checkpoint_that_says_little(run_folder, tmp_path):
    network = trained.load(run_folder, "cpu")
    settings = {name: network.settings[name] for name in (*trained.SHAPING, *trained.SHAPING_SINCE)}
    for left in (settings, settings | {"dataset": "my_*data*\n| x", "loss": "pml:A_b_"}):
        card = hub_folder.card(tmp_path / "x.pth.tar", replace(network, settings=left), "other")
        title = r"# test\_resnet\_normalize"
        if "dataset" in left:
            assert rf"{title}, trained on my\_\*data\*\\n\| x" in card.splitlines()
            assert r"near each other. It was trained with the objective pml:A\_b\_." in card
        else:
            assert title in card.splitlines() and "near each other.\n" in card
        assert "Command" not in card and "## Results" not in card


def by_the_card(folder: Path, image: Path) -> np.ndarray:
    """What the lines of the model card give."""
    [lines] = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)
    names: dict = {}
    exec(lines.replace("image.jpg", str(image)).replace("hf-hub:USER/NAME", "local-dir:."), names)
    return names["embedding"].numpy()


def odd_images(folder: Path) -> list[Path]:
    """Of all kinds that are not simply RGB."""
    across, down = np.meshgrid(np.linspace(0, 1, 57), np.linspace(0, 1, 40))
    levels = np.stack([across, down, across * down, (across + down) % 1], -1)
    colours = (255 * levels).astype(np.uint8)
    see_through = Image.fromarray(colours)
    palette = see_through.convert("RGB").quantize(16)
    images: dict[str, tuple[Image.Image, dict]] = {
        "rgba.png": (see_through, {}),
        "turned_rgba.png": (see_through, {"exif": orientation_tag(5)}),
        "grey_and_alpha.png": (see_through.convert("LA"), {}),
        "palette.png": (palette, {"transparency": bytes(range(0, 256, 16))}),
        "turned_palette.png": (palette, {"transparency": 3, "exif": orientation_tag(8)}),
        "palette.gif": (palette, {"transparency": 5}),
        "one_colour.png": (see_through.convert("RGB"), {"transparency": (0, 0, 0)}),
        "turned.jpg": (see_through.convert("RGB"), {"exif": orientation_tag(6)}),
        "four_colours.jpg": (see_through.convert("CMYK"), {}),
    }
    for bits in (8, 12, 16):
        grey = (levels[..., 2] * (2**bits - 1)).astype(np.uint16)
        images[f"{bits}_bits.png"] = (Image.fromarray(grey), {"exif": orientation_tag(3)})
        images[f"{bits}_bits.tif"] = (Image.fromarray(grey), {})
    for name, (image, options) in images.items():
        image.save(folder / name, **options)
    return [folder / name for name in images]


@pytest.mark.parametrize("exif_orientation", ["apply", "ignore"])
def test_the_lines_of_an_export_read_any_image_as_the_program_does(
    make_checkpoint, tmp_path, monkeypatch, exif_orientation
):
    checkpoint = make_checkpoint("test_resnet_normalize", exif_orientation=exif_orientation)
    target = tmp_path / "exported"
    assert export.main([str(checkpoint), "--to", str(target), "--format", "hub"]) == 0
    files = odd_images(tmp_path)
    monkeypatch.chdir(target)
    for file, expected in zip(files, by_hand.embeddings(checkpoint, files)):
        for lines in (by_the_description, by_the_card):
            # Pillow resizes to within one level of 255 of the loader.
            difference = np.abs(lines(target, file) - expected).max()
            assert difference <= 1e-2 * np.abs(expected).max(), (file.name, lines)


def test_timm_alone_opens_the_folder_and_prepares_images(run_folder, photos, tmp_path):
    """With its own transform, which differs from ours by a level of 255."""
    import timm

    target = tmp_path / "folder"
    assert export.main([str(run_folder), "--to", str(target), "--format", "hub"]) == 0
    model = timm.create_model(f"local-dir:{target}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config)
    files = sorted(photos.rglob("*.png"))[:4]
    with torch.inference_mode():
        rows = model(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    expected = by_hand.embeddings(run_folder / "checkpoint_last.pth.tar", files)
    found = torch.nn.functional.normalize(rows, dim=1).numpy()
    assert np.abs(found - expected).max() <= 2e-2 * np.abs(expected).max()


def test_the_card_says_of_which_epoch_the_weights_are(make_checkpoint, tmp_path):
    """A run's results stand there, too, and are not all of the checkpoint that is exported."""
    state = torch.load(make_checkpoint("test_resnet_normalize"), weights_only=True)
    torch.save(state | {"epoch": 3}, tmp_path / "of_epoch_4.pth.tar")
    network = trained.load(tmp_path / "of_epoch_4.pth.tar", "cpu")
    guided = {"language_distill_w": 1.0, "language_model": "vectors:/home/me/b.npy"}
    network.settings.update(guided, loss="margin")
    card = hub_folder.card(tmp_path / "of_epoch_4.pth.tar", network, "other")
    assert "- Weights: those after 4 epochs." in card.splitlines()
    assert "vectors:.../b.npy" in card and "/home" not in card


@pytest.mark.parametrize(
    "given, shown",
    [
        ("--source_path /home/me/photos --bs 8", "--source_path .../photos --bs 8"),
        ("--save_path=~/runs", "--save_path=.../runs"),
        ("--source_path '/home/my photos/b c.csv'", "--source_path '.../b c.csv'"),
        ("--language_model vectors:/a/b.npy", "--language_model vectors:.../b.npy"),
        ("--arch clip:ViT-B-32//a/b.pt", "--arch clip:ViT-B-32/.../b.pt"),
        (
            "--language_model hf:org/name --notes 'a / b'",
            "--language_model hf:org/name --notes 'a / b'",
        ),
        ("--source_path data/birds", "--source_path data/birds"),
        ("--notes it's", """--notes 'it'"'"'s'"""),
    ],
)
def test_the_card_names_no_folders_of_the_machine(given, shown):
    assert hub_folder.without_folders(f"python main.py {given}") == f"python main.py {shown}"


@pytest.mark.parametrize("augmentation", ["base", "big"])
def test_timm_resizes_to_the_short_side_of_every_size(augmentation):
    from timm.data.transforms_factory import transforms_imagenet_eval

    for image_size in range(16, 1025):
        crop = transforms.crop_size(augmentation, image_size)
        short_side = transforms.short_side(image_size)
        share = hub_folder._crop_share(crop, short_side)
        resize, window, *_ = transforms_imagenet_eval((crop, crop), share).transforms
        assert (resize.size, window.size) == (short_side, (crop, crop))
        assert share == pytest.approx(crop / short_side, rel=1e-15)


def test_a_head_that_timm_does_not_have_is_refused(make_checkpoint, tmp_path, capsys):
    checkpoint = make_checkpoint("mobilenetv3_small_050_double", image_size=64)
    target = tmp_path / "folder"
    assert export.main([str(checkpoint), "--to", str(target), "--format", "hub"]) == 2
    assert "--format onnx and torch write any network" in capsys.readouterr().err
    assert not target.exists()


class Hub:
    """The hub's client as far as it is used."""

    pushed: ClassVar[list[tuple[str, list[str]]]] = []

    def create_repo(self, repository: str, *, exist_ok: bool) -> None:
        if repository == "nobody/x":
            raise OSError("403 Forbidden")

    def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list[str]) -> str:
        from huggingface_hub.utils import filter_repo_objects

        names = [path.name for path in Path(folder_path).iterdir()]
        uploaded = sorted(filter_repo_objects(names, allow_patterns=allow_patterns))
        self.pushed.append((repo_id, uploaded))
        return f"https://hub/{repo_id}"


def test_pushing(make_checkpoint, tmp_path, capsys, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(Hub, "pushed", [])
    target = tmp_path / "folder"
    checkpoint = str(make_checkpoint("test_resnet_normalize"))
    command = [checkpoint, "--to", str(target), "--format", "hub", "--push"]
    assert export.main([*command, "me/x"]) == 2 and not target.exists()
    assert "--push me/x needs a token" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    target.mkdir()
    (target / "private.txt").write_text("not of the export")
    assert export.main([*command, "me/x"]) == 0
    written = ["README.md", "config.json", "model.safetensors", "preprocessing.json"]
    assert Hub.pushed == [("me/x", written)]
    assert "Uploaded: https://hub/me/x" in capsys.readouterr().err
    assert export.main([*command, "nobody/x"]) == 2
    assert "--push nobody/x failed (403 Forbidden)" in capsys.readouterr().err
    assert (target / "model.safetensors").is_file()


def test_only_folders_of_the_hub_are_pushed(run_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export.main([str(run_folder), "--to", str(tmp_path / "x"), "--push", "me/x"])
    assert "--push: it takes --format hub" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main([str(run_folder), "--to", str(tmp_path / "x"), "--license", "mit"])
    assert "--license: it takes --format hub" in capsys.readouterr().err
