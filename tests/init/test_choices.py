"""Choices of `fastfcn init`: colors, names, splits, sizes, the loss, and the files written."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastfcn import recipes
from fastfcn.checking.check import ExamplePaths, FolderReport, Layout
from fastfcn.checking.statistics import Statistics
from fastfcn.data.class_lists import class_lists
from fastfcn.data.folds import sequences
from fastfcn.errors import DataError
from fastfcn.init import choices, splits
from fastfcn.init.choices import Facts, TrainingMachine, choose_loss
from fastfcn.init.colors import distinct_colors, oklab
from fastfcn.init.splits import choose_splits
from fastfcn.init.toml_files import recipe_toml

CPU = TrainingMachine("cpu", "2 processor cores", 8.0)
SMALL_GPU = TrainingMachine("cuda", "a small GPU", 8.0)
LARGE_GPU = TrainingMachine("cuda", "a large GPU", 80.0)


def facts(**changes) -> Facts:
    usual = {
        "train": 367, "val": 101, "sizes": {(360, 480): 468}, "names": ("road", "pole", "sky"),
        "shares": (0.55, 0.05, 0.4), "pretrained": "imagenet", "backbone": "", "machine": CPU,
    }  # fmt: skip
    return Facts(**(usual | changes))


@pytest.mark.parametrize(("count", "distance"), [(5, 0.2), (20, 0.1), (150, 0.03), (254, 0.015)])
def test_colors_are_different_from_each_other_and_from_those_taken(count: int, distance: float):
    taken = [(128, 64, 128), (40, 40, 40)]
    colors = distinct_colors(count, taken)
    places = oklab(np.array([*taken, *colors], float))
    between = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(len(places))
    assert len(colors) == count
    assert between.min() > distance
    assert colors == distinct_colors(count, taken)


def test_oklab_of_known_colors():
    """Ottosson's page gives white as (1, 0, 0); red as in CSS Color 4: oklab(0.62796 0.22486 0.12585)."""
    lab = oklab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], float))
    np.testing.assert_allclose(lab, [[1, 0, 0], [0, 0, 0], [0.62796, 0.22486, 0.12585]], atol=2e-4)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "labelmap.txt",  # CVAT
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntraffic light:250,50,83:a,b:\n",
            [("background", (0, 0, 0)), ("traffic light", (250, 50, 83))],
        ),
        (
            "label_colors.txt",  # SegNet's CamVid
            "64 128 64\tAnimal\n192 0 128\tArchway\n",
            [("Animal", (64, 128, 64)), ("Archway", (192, 0, 128))],
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nSky,128,128,128\nRoad, 128, 64, 128\n",
            [("Sky", (128, 128, 128)), ("Road", (128, 64, 128))],
        ),
        ("_classes.csv", 'Pixel Value, Class\n0, ground\n1, "leaf, dry"\n', [("ground", None), ("leaf, dry", None)]),
        ("classes.txt", "0: road\n1: forêt dense\n\n", [("road", None), ("forêt dense", None)]),
        ("Labels.txt", "__ignore__\r\n_background_\r\ntv/monitor\r\n", [
            ("__ignore__", None), ("_background_", None), ("tv/monitor", None),
        ]),
    ],
)  # fmt: skip
def test_lists_of_classes(tmp_path: Path, file: str, text: str, expected: list):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / file).write_text(text, encoding="utf-8")
    first = class_lists(tmp_path)[0]
    assert [tuple(class_) for class_ in first.classes] == expected
    assert first.path == tmp_path / "masks" / file
    assert class_lists(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["0001TP_006690", "0001TP_006720", "0001TP_006750", "0016E5_00001", "0016E5_00002", "0016E5_00003"], 2),
        (["drive/0001", "drive/0002", "drive/0003", "walk/0001", "walk/0002", "walk/0003", "walk/0004"], 2),
        ([f"IMG_{number:04}" for number in range(20)], 0),  # a common prefix alone is not a sequence
        ([f"{number:012}" for number in range(20)], 0),
        (["cat", "dog", "bird", "tree1", "tree2"], 0),
        (["3fa9", "77c1", "a0b4", "9e12", "c3d4", "f001"], 0),  # hashes
    ],
)
def test_sequences_in_names(names: list[str], groups: int):
    grouped = sequences(names)
    assert len(grouped) == groups
    assert not grouped or sorted(itertools.chain.from_iterable(grouped.values())) == sorted(names)


def surveyed(names: list[str], monkeypatch: pytest.MonkeyPatch, values: dict[str, set] | None = None) -> FolderReport:
    """A report of pairs with these names in images/ and masks/, with what choosing splits needs."""
    mask_values = values or {}
    monkeypatch.setattr(splits, "_values", lambda report, example: mask_values.get(example.name, {0}))
    layout = Layout("folders", (".",), ("images/{folder}/{name}.jpg", "images/{name}.jpg"),
                    ("masks/{folder}/{name}_gt.png", "masks/{name}_gt.png"), (), {"all": ""})  # fmt: skip
    examples = [ExamplePaths("all", name, f"images/{name}.jpg", f"masks/{name}_gt.png") for name in names]
    report = {"root": Path("there"), "layout": layout, "pairs_by_split": {"all": len(names)}, "labels_kind": "index"}
    report |= {"problems": [], "stats": Statistics(len(names), 1)}  # of images without fingerprints
    return SimpleNamespace(**report, dataset=SimpleNamespace(unlisted=0), examples=lambda: iter(examples))  # type: ignore[return-value]


def test_sequences_are_not_divided_and_about_a_fifth_is_validation(monkeypatch: pytest.MonkeyPatch):
    names = [f"video{letter}/frame_{number:03}" for letter in "abcdefgh" for number in range(10 + ord(letter) % 5)]
    choice = choose_splits(surveyed(names, monkeypatch), seed=1)
    train, val = choice.drawn["train"], choice.drawn["val"]
    assert sorted([*train, *val]) == sorted(names)
    assert not {name.split("/")[0] for name in train} & {name.split("/")[0] for name in val}
    assert 0.12 < len(val) / len(names) < 0.3
    assert choice.images == ("images/{name}.jpg",)
    assert any("8 sequences" in reason for reason in choice.reasons)


def test_every_class_is_in_both_splits_if_possible(monkeypatch: pytest.MonkeyPatch):
    names = [f"{number:03}" for number in range(20)]
    rare = {"003": {0, 7}, "011": {0, 7}}
    for seed in range(5):
        choice = choose_splits(surveyed(names, monkeypatch, rare), seed)
        assert {len(set(part) & rare.keys()) for part in choice.drawn.values()} == {1}


def test_draws_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch):
    names = [f"{number:03}" for number in range(50)]
    first, again, other = (choose_splits(surveyed(names, monkeypatch), seed).drawn for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert (len(first["train"]), len(first["val"])) == (40, 10)


def test_too_few_images_and_names_that_no_list_can_hold(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match=r"1 image\(s\) with a mask"):
        choose_splits(surveyed(["a"], monkeypatch), 0)
    with pytest.raises(DataError, match="cannot be written to a split list"):
        choose_splits(surveyed(["a", "b "], monkeypatch), 0)
    with pytest.raises(DataError, match="cannot be written to a split list"):
        choose_splits(surveyed(["a", "b\nc"], monkeypatch), 0)


@pytest.mark.parametrize("names", [("road", "pole"), ("left arm", "right arm", "rest")])
@pytest.mark.parametrize("machine", [CPU, SMALL_GPU, LARGE_GPU])
@pytest.mark.parametrize("sizes", [{(360, 480): 5}, {(3000, 4000): 3, (2000, 3000): 4}, {(64, 64): 9}, {(97, 1000): 1}])
@pytest.mark.parametrize("pretrained", ["imagenet", "none", "/weights/resnet50-x.pth"])
def test_every_draft_is_a_recipe(sizes: dict, machine: TrainingMachine, names: tuple[str, ...], pretrained: str):
    shares = tuple(1 / len(names) for _ in names)
    dataset_facts = facts(sizes=sizes, machine=machine, names=names, shares=shares, pretrained=pretrained, train=3)
    loss = choose_loss(names, [100] * len(names))
    result = recipes.parse(recipe_toml("mine", "dataset.toml", "train", "val", dataset_facts, loss), "draft")
    assert all(inner <= outer for inner, outer in zip(result.data.crop, result.data.base_size, strict=True))
    assert result.optim.batch == 2, "no more than there are images, as a power of two"
    assert result.data.flip == (0.0 if "left arm" in names else 0.5)
    assert (result.backbone.name == "resnet50") == (machine == LARGE_GPU or "resnet50" in pretrained)
    assert all(len(line) <= 120 for line in result.text.splitlines())


@pytest.mark.parametrize(
    ("name", "kind", "optimizer", "drop_path", "mean"),
    [
        ("resnet50", "resnet", "sgd", "none", 123.675),
        ("convnext_tiny", "pyramid", "adamw", "linear", 123.675),
        ("swin_tiny_patch4_window7_224", "pyramid", "adamw", "linear", 123.675),
        ("tf_efficientnet_lite0", "pyramid", "sgd", "none", 127.5),
    ],
)
@pytest.mark.parametrize("pretrained", ["imagenet", "none"])
def test_settings_follow_the_backbone(
    name: str, kind: str, optimizer: str, drop_path: str, mean: float, pretrained: str
):
    dataset_facts = facts(backbone=name, pretrained=pretrained)
    loss = choose_loss(("road", "pole", "sky"), [100, 100, 100])
    result = recipes.parse(recipe_toml("mine", "dataset.toml", "train", "val", dataset_facts, loss), "draft")
    assert (result.backbone.kind, result.backbone.name, result.optim.kind) == (kind, name, optimizer)
    assert (result.drop_path.kind, result.data.mean[0]) == (drop_path, mean)
    assert result.optim.head_lr_factor == (1.0 if pretrained == "none" else 10.0 if optimizer == "sgd" else 5.0)
    assert (result.optim.layer_decay < 1) == (optimizer == "adamw" and pretrained != "none")
    assert result.schedule.kind == ("cosine" if optimizer == "adamw" else "poly")


@pytest.mark.parametrize(
    ("pretrained", "machine", "name"),
    [
        ("imagenet", CPU, "tf_efficientnet_lite0"),
        ("none", CPU, "resnet18"),
        ("imagenet", SMALL_GPU, "resnet34"),
        ("/weights/efficientnet-lite2-9656183e.pth", SMALL_GPU, "tf_efficientnet_lite2"),
        ("/weights/resnet34.pth", CPU, "resnet34"),
    ],
)
def test_the_backbone_follows_machine_and_weights(pretrained: str, machine: TrainingMachine, name: str):
    assert choices.backbone(facts(pretrained=pretrained, machine=machine)).value == name


def test_sizes_follow_the_images_as_far_as_the_machine_goes():
    assert choices.base_size(facts()).value == (360, 480)
    large = facts(sizes={(3000, 4000): 3, (2000, 3000): 4})
    height, width = choices.base_size(large).value
    assert height * width == pytest.approx(480 * 640, rel=0.01)
    assert height / width == pytest.approx(2000 / 3000, rel=0.01)
    assert choices.test_size(large, (height, width)).value == (height, width)
    assert choices.test_size(facts(), (360, 480)).value == "none"
    assert choices.crop((360, 480)).value == (256, 320)
    assert choices.crop((64, 96)).value == (64, 96)


def test_batch_keeps_within_the_memory():
    assert choices.batch(facts(machine=LARGE_GPU), (512, 512)).value == 16
    assert choices.batch(facts(machine=SMALL_GPU), (512, 512)).value == 2
    assert choices.batch(facts(train=5), (256, 320)).value == 4
    assert choices.batch(facts(machine=TrainingMachine("cuda", "tiny", 0.1)), (512, 512)).value == 2


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ([60, 40], "cross_entropy"),
        ([970, 30], "dice"),
        ([30, 970], "dice"),
        ([500, 300, 200], "cross_entropy"),
        ([900, 90, 10], "weighted_cross_entropy"),
        ([900, 90, 10, 0], "weighted_cross_entropy"),
        ([5000, *range(1, 60)], "ohem"),
        ([100, 0], "cross_entropy"),
    ],
)
def test_the_loss_follows_the_imbalance(counts: list[int], kind: str):
    names = [f"class {number}" for number in range(len(counts))]
    chosen = choose_loss(names, counts)
    assert chosen.value["kind"] == kind
    if kind == "weighted_cross_entropy":
        assert chosen.value["weights"][2] == pytest.approx(10 * 0.9486833 * chosen.value["weights"][0], rel=0.01)
