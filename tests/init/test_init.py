"""`fastfcn init` on typical custom datasets, and a short training run with the files it wrote."""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from fastfcn import build, recipes
from fastfcn.data.description import load_description
from fastfcn.errors import DataError, OutputError, RecipeError, WeightsError
from fastfcn.init.choices import TrainingMachine
from fastfcn.init.init import InitResult, init
from fastfcn.training.run import Run
from tests.helpers.command import fastfcn
from tests.helpers.own_sets import BLACK, GREEN, RED, binary_set, palette_set, photo, rgb_set, save, stripes, voc_set

CPU = TrainingMachine("cpu", "2 processor cores", 8.0)
SMALL = (
    'backbone={kind="pyramid", name="test_resnet", pretrained="none"}', "neck.width=8", "head.width=8",
    "auxiliary.width=8", "optim.steps=2", "optim.batch=2", "eval.every=2", "data.base_size=[48, 64]",
    "data.crop=[32, 48]", "--accelerator", "cpu", "--workers", "0",
)  # fmt: skip


def run_init(root: Path, **settings) -> InitResult:
    return init(root, **{"pretrained": "none", "machine": CPU, **settings})


def names(result: InitResult) -> list[str]:
    return list(result.description.class_names)


def readable(result: InitResult) -> dict[str, list[str]]:
    """Split -> names of its examples, all of whose masks are read; raises DataError if one cannot be read."""
    description = build.description(recipes.load(result.recipe_file))
    examples = {}
    for split in (result.recipe.data.train_split, result.recipe.data.val_split):
        dataset = build.dataset(result.recipe, description, result.root, split, train=False)
        dataset.check_labels()
        examples[split] = [example.name for example in dataset.examples]
    return examples


def run_on(result: InitResult, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """The printed commands with small sizes, run from another folder."""
    monkeypatch.chdir(place)
    train, evaluate, _ = (shlex.split(command)[1:] for command in result.commands())
    done = fastfcn(*train, *SMALL)
    assert done.code == 0, done.err
    done = fastfcn(*evaluate, "--accelerator", "cpu", "--workers", "0")
    assert done.code == 0, done.err
    for name in names(result):
        assert name in done.out


def test_masks_in_colors_that_a_list_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    result = run_init(rgb_set(tmp_path / "street"))
    description = result.description
    assert [(class_.name, class_.color) for class_ in description.classes] == [
        ("background", BLACK),
        ("person", RED),
        ("grass", GREEN),
    ]
    assert (description.labels_kind, description.ignored, result.errors) == ("color", (), ())
    splits = readable(result)
    held_out = {name[0] for name in splits["val"]}
    assert len(splits["val"]) == 4
    assert len(held_out) == 1, "a sequence is as a whole in one split"
    assert not held_out & {name[0] for name in splits["train"]}
    run_on(result, monkeypatch, tmp_path)


def test_masks_of_0_and_255(tmp_path: Path):
    result = run_init(binary_set(tmp_path / "leaf"))
    assert [(class_.name, class_.ids) for class_ in result.description.classes] == [
        ("background", (0,)),
        ("foreground", (255,)),
    ]
    assert result.description.ignored == ()
    assert result.errors == (), "what the description says right is no error any more"
    assert {split: len(examples) for split, examples in readable(result).items()} == {"train": 4, "val": 2}
    assert [path.name for path in result.files] == ["dataset.toml", "recipe.toml"]


def test_palette_masks_with_odd_names_and_a_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = palette_set(tmp_path / "mein gärten")
    result = run_init(root, classes=["soil", "weed", "crop"])
    assert [(class_.name, class_.color, class_.ids) for class_ in result.description.classes] == [
        ("soil", BLACK, (0,)),
        ("weed", RED, (1,)),
        ("crop", GREEN, (2,)),
    ]
    assert [class_.ids for class_ in result.description.ignored] == [(255,)]
    assert any("jardín 3é" in file for problem in result.errors for file in problem.files)
    (root / "images/jardín 3é.jpg").unlink()
    photo(root / "images/jardín 3é.jpg", 3)
    assert sum(map(len, readable(result).values())) == 8
    run_on(result, monkeypatch, tmp_path)


def test_the_layout_of_voc_with_other_classes(tmp_path: Path):
    """Ids counted from 0 in VOC's folders are not VOC's first classes."""
    root = voc_set(tmp_path / "VOC")
    result = run_init(root)
    assert names(result) == ["class_0", "class_1", "class_2"]
    assert result.description.lists == ("ImageSets/Segmentation/{split}.txt",)
    assert {split: len(examples) for split, examples in readable(result).items()} == {"train": 4, "val": 2}
    (root / "class_names.txt").write_text("__ignore__\n_background_\ncat\ndog\n")
    assert names(run_init(root, force=True)) == ["_background_", "cat", "dog"]


def test_published_colors_are_known(tmp_path: Path):
    """CamVid in its colors, black where nothing is labeled."""
    camvid = load_description("camvid")
    table = np.array([*camvid.colors, BLACK], np.uint8)
    for number in range(4):
        photo(tmp_path / f"images/{number}.jpg", number)
        save(tmp_path / f"masks/{number}.png", table[stripes(tuple(range(12)), number)])
    result = run_init(tmp_path)
    assert names(result) == list(camvid.class_names)
    assert [class_.color for class_ in result.description.ignored] == [BLACK]
    readable(result)


def test_comments_survive_loading_and_overriding(tmp_path: Path):
    result = run_init(binary_set(tmp_path / "leaf"))
    text = result.recipe_file.read_text(encoding="utf-8")
    loaded = recipes.load(result.recipe_file)
    assert loaded.text == text
    assert text.count("\n# ") > 20
    changed = loaded.override(["optim.lr=0.5"])
    assert [line for line in changed.text.splitlines() if line not in text.splitlines()] == [
        f"lr = 0.5  # was {loaded.optim.lr}"
    ]


def test_a_dataset_next_to_the_recipe_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    result = run_init(binary_set(tmp_path / "leaf"))
    monkeypatch.chdir(tmp_path)
    Path("dataset.toml").write_text("not this one")
    assert build.description(recipes.load("leaf/recipe.toml")) == result.description
    assert build.description(recipes.load("leaf/recipe.toml", ["optim.steps=3"])) == result.description
    # A path on the command line is relative to the current folder.
    Path("dataset.toml").rename("other.toml")
    with pytest.raises(DataError, match=r"other\.toml is not valid TOML"):
        build.description(recipes.load("leaf/recipe.toml", ["data.dataset=other.toml"]))
    assert recipes.load("demo").dataset == "streets"


def test_a_run_keeps_the_dataset_file_next_to_its_recipe(tmp_path: Path):
    result = run_init(binary_set(tmp_path / "leaf"))
    Run(tmp_path / "run").start(recipes.load(result.recipe_file))
    result.recipe_file.with_name("dataset.toml").unlink()
    assert build.description(recipes.load(tmp_path / "run/recipe.toml")) == result.description


def test_files_are_not_overwritten(tmp_path: Path):
    root = rgb_set(tmp_path / "street")
    first = run_init(root)
    contents = [path.read_text() for path in first.files]
    assert [path.name for path in first.files] == ["train.txt", "val.txt", "dataset.toml", "recipe.toml"]
    first.files[2].write_text("mine")
    with pytest.raises(OutputError, match=r"dataset\.toml.* already exists"):
        run_init(root)
    assert first.files[2].read_text() == "mine"
    again = run_init(root, force=True)
    assert (root / "dataset.toml").read_text() != "mine"
    assert names(again) == names(first)
    assert [(root / "splits" / name).read_text() for name in ("train.txt", "val.txt")] == contents[:2]


def test_lists_that_cannot_be_used_are_not_replaced(tmp_path: Path):
    root = rgb_set(tmp_path / "street")
    split = root / "splits/train.txt"
    split.parent.mkdir()
    split.write_bytes("a\nb\n".encode("utf-16-le"))  # without a byte order mark
    before = split.read_bytes()
    for force in (False, True):
        with pytest.raises(DataError, match=r"would replace .*train\.txt.* UTF-16 without a byte order mark"):
            run_init(root, force=force)
    assert split.read_bytes() == before
    assert not (root / "dataset.toml").exists()


def test_classes_without_names_are_called_by_their_ids(tmp_path: Path):
    root = tmp_path / "sparse"
    for seed in range(6):
        photo(root / f"images/{seed}.jpg", seed)
        save(root / f"masks/{seed}.png", stripes((0, 2, 7), seed))
    result = run_init(root)
    assert [(entry.name, entry.ids) for entry in result.description.classes] == [
        ("class_0", (0,)),
        ("class_2", (2,)),
        ("class_7", (7,)),
    ]


def test_a_description_without_a_recipe_is_kept(tmp_path: Path):
    """Such as after an import, or after classes were merged; its classes are those of the recipe."""
    root = rgb_set(tmp_path / "street")
    first = run_init(root)
    first.recipe_file.unlink()
    file = root / "dataset.toml"
    file.write_text(file.read_text() + 'merge = { ground = ["background", "grass"] }\n')
    text = file.read_text()
    again = run_init(root)
    assert (again.files, file.read_text()) == ((root / "recipe.toml",), text)
    assert again.description.class_names == ("ground", "person")
    assert (again.train, again.val) == (first.train, first.val)
    assert "2 classes" in again.recipe.summary
    readable(again)
    again.recipe_file.unlink()
    file.write_text(text.replace("val = ", "later = "))
    with pytest.raises(DataError, match=r"has the splits train, later; a recipe needs train, and val or test"):
        run_init(root)


def test_files_elsewhere(tmp_path: Path):
    result = run_init(binary_set(tmp_path / "leaf"), out=tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "leaf").iterdir()) == ["train", "val"]
    assert result.files == (tmp_path / "mine/dataset.toml", tmp_path / "mine/recipe.toml")
    readable(result)


def test_what_cannot_be_made_sense_of(tmp_path: Path):
    root = binary_set(tmp_path / "leaf")
    with pytest.raises(DataError, match=r"--classes gives 3 names, but .* contain 2 classes: 0, 255"):
        run_init(root, classes=["a", "b", "c"])
    with pytest.raises(WeightsError, match="the file no\\.pth does not exist"):
        run_init(root, pretrained="no.pth")
    for split in ("train", "val"):
        for path in (root / split / "masks").iterdir():
            save(path, np.zeros((48, 64), np.uint8))
    with pytest.raises(DataError, match=r"contain 1 different value"):
        run_init(root)
    assert not (root / "recipe.toml").exists()


def test_the_command_prints_its_results_and_the_next_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    palette_set(tmp_path / "my garden")
    weights = tmp_path / "resnet34-imagenet.pth"
    weights.write_bytes(b"")
    done = fastfcn("init", "my garden", "--pretrained", "resnet34-imagenet.pth", "--accelerator", "cpu", "--workers", 1)
    assert done.code == 0, done.err
    assert "3 classes; 6 training and 2 validation images.\n" in done.out
    assert "\nresnet34," in done.out
    assert "fastfcn check 'my garden' --fix OUT" in done.out
    assert "fastfcn train 'my garden/recipe.toml' --data 'my garden' --out runs/my_garden" in done.out
    written = recipes.load(tmp_path / "my garden/recipe.toml")
    assert (written.backbone.name, written.backbone.pretrained) == ("resnet34", str(weights))
    again = fastfcn("init", "my garden")
    assert again.code == 2
    assert "--force" in again.err


def test_camvid_is_result_as_published(shared_data: Path, tmp_path: Path):
    result = run_init(shared_data / "camvid", out=tmp_path)
    assert result.description.classes == load_description("camvid").classes
    assert (result.train, result.val, result.recipe.data.base_size) == (367, 101, (360, 480))
    loss = result.recipe.loss
    assert loss.kind == "weighted_cross_entropy"
    assert np.argsort(loss.weights)[0] == 3, "road is the commonest"


def read_only_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images without splits on read-only media, such as Kaggle's input."""
    for number in range(6):
        photo(root / f"images/é {number}.png", number)
        save(root / f"masks/é {number}.png", stripes((0, 1), number))
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and not (Path(path) == root and mode & os.W_OK)
    )
    return root


def test_a_folder_without_splits_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The names of each split are in dataset.toml, and from there in the weights file, so that it can be evaluated."""
    root = read_only_set(tmp_path / "read only", monkeypatch)
    before = sorted(root.rglob("*"))
    result = run_init(root, out=tmp_path / "out")
    assert [path.name for path in result.files] == ["dataset.toml", "recipe.toml"]
    assert (result.train, result.val) == (5, 1)
    names = result.description.names
    assert sorted([*names["train"], *names["val"]]) == [f"é {number}" for number in range(6)]
    assert {split: list(examples) for split, examples in readable(result).items()} == {
        split: list(values) for split, values in names.items()
    }
    run_on(result, monkeypatch, tmp_path)
    assert sorted(root.rglob("*")) == before


def test_a_folder_that_cannot_be_written_needs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = read_only_set(tmp_path / "read only", monkeypatch)
    with pytest.raises(OutputError, match="it is read-only") as error:
        run_init(root)
    assert error.value.hint.endswith("--out FOLDER")
    (root / "images/é 0.png").rename(root / "images/stra\udcdfe.png")
    (root / "masks/é 0.png").rename(root / "masks/stra\udcdfe.png")
    with pytest.raises(DataError, match="is not UTF-8"):
        run_init(root, out=tmp_path / "out")


@pytest.mark.parametrize("backbone", ["test_convnext", "swin_tiny_patch4_window7_224", "resnet18.a1_in1k"])
def test_the_recipe_for_any_backbone_builds(tmp_path: Path, backbone: str):
    recipe = run_init(binary_set(tmp_path / "leaf"), backbone=backbone).recipe
    assert recipe.backbone.kind == ("resnet" if backbone.startswith("resnet") else "pyramid")
    recipe = recipe.override(["neck.width=8", "head.width=8", "auxiliary.width=8"])
    with torch.device("meta"):
        network = build.network(recipe, 2).eval()
        assert network(torch.zeros(1, 3, 64, 96)).shape[:2] == (1, 2)


def test_training_with_another_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = run_init(binary_set(tmp_path / "leaf"), backbone="test_convnext")
    train = shlex.split(result.commands()[0])[1:]
    done = fastfcn(*train, "optim.steps=1", "eval.every=1", "optim.batch=2", "--accelerator", "cpu", "--workers", "0")
    assert done.code == 0, done.err


def test_a_backbone_that_cannot_be_used_writes_nothing(tmp_path: Path):
    root = binary_set(tmp_path / "leaf")
    for name in ("nosuch_net", "vit_tiny_patch16_224"):
        with pytest.raises(RecipeError, match=f"backbone.name = '{name}' cannot be used"):
            run_init(root, backbone=name)
    assert not (root / "recipe.toml").exists()
