"""Shipped recipes: layout, names, and published values."""

import tomllib
from pathlib import Path

import pytest
import tomlkit

import fastfcn
from fastfcn import recipes
from fastfcn.recipes.recipe import Recipe
from fastfcn.recipes.validation import kind_of, models_in

SHIPPED = Path(fastfcn.__path__[0]) / "recipes" / "shipped"
PSP = "fastfcn_r50_psp_cityscapes_80k_b8"

# OpenMMLab's table: head, dataset, batch, steps, mIoU, mIoU (ms+flip), memory in GB, frames per second; and
# the end of the name of the weights. https://github.com/open-mmlab/mmsegmentation/tree/v1.2.2/configs/fastfcn
TABLE = [
    ("aspp", "cityscapes", 8, 80000, 79.12, 80.58, 5.67, 2.64, "20210928_053722-5d1a2648"),
    ("aspp", "cityscapes", 16, 80000, 79.52, 80.91, 9.79, None, "20210924_214357-72220849"),
    ("psp", "cityscapes", 8, 80000, 79.26, 80.86, 5.67, 4.40, "20210928_053722-57749bed"),
    ("psp", "cityscapes", 16, 80000, 78.76, 80.03, 9.94, None, "20210925_061841-77e87b0a"),
    ("enc", "cityscapes", 8, 80000, 77.97, 79.92, 8.15, 4.77, "20210928_030036-78da5046"),
    ("enc", "cityscapes", 16, 80000, 78.60, 80.25, 15.45, None, "20210926_093217-e1eb6dbb"),
    ("aspp", "ade20k", 16, 80000, 41.88, 42.91, 8.46, 12.06, "20211013_190619-3aa40f2d"),
    ("aspp", "ade20k", 16, 160000, 43.58, 44.92, None, None, "20211008_152246-27036aee"),
    ("psp", "ade20k", 16, 80000, 41.40, 42.12, 8.02, 19.21, "20210930_225137-993d07c8"),
    ("psp", "ade20k", 16, 160000, 42.63, 43.71, None, None, "20211008_105455-e8f5a2fd"),
    ("enc", "ade20k", 16, 80000, 40.88, 42.36, 9.67, 17.23, "20210930_225214-65aef6dd"),
    ("enc", "ade20k", 16, 160000, 42.50, 44.21, None, None, "20211008_105456-d875ce3c"),
]  # fmt: skip

# Dilated baselines: head, dataset, batch, mIoU, frames per second.
DILATED = [
    ("psp", "cityscapes", 8, 78.55, 4.07),
    ("aspp", "cityscapes", 8, 79.32, 2.57),
    ("enc", "cityscapes", 8, 77.94, 4.58),
    ("psp", "ade20k", 16, 41.13, 23.53),
    ("aspp", "ade20k", 16, 42.42, 14.76),
    ("enc", "ade20k", 16, 39.53, 22.81),
]

ALIASES = {
    "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes": PSP,
    "fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024": PSP,
    "fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes": "fastfcn_r50_aspp_cityscapes_80k_b16",
    "fastfcn_r50-d32_jpu_aspp_4xb4-80k_cityscapes-512x1024": "fastfcn_r50_aspp_cityscapes_80k_b16",
    "fastfcn_r50-d32_jpu_enc_512x512_160k_ade20k": "fastfcn_r50_enc_ade20k_160k_b16",
    "fastfcn_r50-d32_jpu_enc_4xb4-160k_ade20k-512x512": "fastfcn_r50_enc_ade20k_160k_b16",
    "pspnet_r50-d8_512x1024_80k_cityscapes": "dilated_r50_psp_cityscapes_80k_b8",
    "pspnet_r50-d8_4xb2-80k_cityscapes-512x1024": "dilated_r50_psp_cityscapes_80k_b8",
    "deeplabv3_r50-d8_4xb4-80k_ade20k-512x512": "dilated_r50_aspp_ade20k_80k_b16",
    "encnet_r50-d8_512x512_80k_ade20k": "dilated_r50_enc_ade20k_80k_b16",
}


def test_names_are_the_files_and_the_names_in_them():
    names = recipes.names()
    assert names == sorted(file.stem for file in SHIPPED.glob("*.toml"))
    assert {recipes.load(name).name for name in names} == set(names)
    camvid = {f"{family}_r{depth}_psp_camvid" for family in ("fastfcn", "dilated") for depth in (18, 50)}
    assert {"demo", *camvid} <= set(names)


@pytest.mark.parametrize("name", recipes.names())
def test_shipped_recipe_round_trips(name: str, tmp_path: Path):
    loaded = recipes.load(name)
    written = (SHIPPED / f"{name}.toml").read_bytes()
    assert loaded.text.encode() == written
    loaded.save(tmp_path / "copy.toml")
    assert (tmp_path / "copy.toml").read_bytes() == written
    assert recipes.load(tmp_path / "copy.toml") == loaded
    assert tomlkit.dumps(tomlkit.parse(loaded.text)) == loaded.text


@pytest.mark.parametrize("name", recipes.names())
def test_shipped_recipe_has_the_canonical_layout(name: str):
    """Sections and keys in the order of the schema, one key per line, one empty line before a section."""
    text = recipes.load(name).text
    values = tomllib.loads(text)
    expected = [key for key, value in values.items() if not isinstance(value, dict)]
    assert list(values) == [key for key in Recipe.model_fields if key in values]
    for section, keys in ((key, value) for key, value in values.items() if isinstance(value, dict)):
        models = models_in(Recipe.model_fields[section].annotation)
        model = next(one for one in models if len(models) == 1 or kind_of(one) == keys["kind"])
        assert list(keys) == [key for key in model.model_fields if key in keys], section
        expected += ["", f"[{section}]", *keys]
    assert [line.split(" = ")[0] for line in text.splitlines()] == expected
    assert text.endswith("\n")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}-{row[3]}")
def test_published_figures_are_those_of_the_table(row: tuple):
    head, dataset, batch, steps, miou, miou_tta, memory, fps, weights = row
    one = recipes.load(f"fastfcn_r50_{head}_{dataset}_{steps // 1000}k_b{batch}")
    assert (one.head.kind, one.data.dataset, one.optim.batch, one.optim.steps) == (
        head,
        dataset,
        batch,
        steps,
    )
    published = one.published
    assert published is not None
    assert (published.miou, published.miou_tta) == (miou, miou_tta)
    assert (published.memory_gb, published.fps) == (memory, fps)
    old_name = one.aliases[1]
    assert published.weights is not None
    assert published.weights.startswith("https://download.openmmlab.com/mmsegmentation/v0.5/fastfcn/")
    assert published.weights.endswith(f"/{old_name}/{old_name}_{weights}.pth")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}-{row[3]}")
def test_recipes_of_the_table_train_as_openmmlab_did(row: tuple):
    head, dataset, batch, steps = row[:4]
    one = recipes.load(f"fastfcn_r50_{head}_{dataset}_{steps // 1000}k_b{batch}")
    size = (1024, 2048) if dataset == "cityscapes" else (512, 2048)
    assert one.data.base_size == one.eval.resize == size
    assert one.data.crop == ((512, 1024) if dataset == "cityscapes" else (512, 512))
    assert one.backbone.model_dump() == {
        "kind": "resnet",
        "name": "resnet50c",
        "pretrained": "openmmlab",
        "strides": (1, 2, 2, 2),
        "dilations": (1, 1, 2, 4),
        "style": "pytorch",
    }
    assert one.loss.model_dump() == {
        "kind": "cross_entropy",
        "mean_over": "all",
    }
    assert one.auxiliary.loss_weight == 0.4
    assert one.head.kind != "enc" or one.head.se_loss_weight == 0.2
    optim, schedule = one.optim, one.schedule
    assert (optim.lr, schedule.min_lr, schedule.power, optim.momentum) == (0.01, 0.0001, 0.9, 0.9)
    assert (optim.head_lr_factor, optim.weight_decay, schedule.warmup_steps) == (1.0, 0.0005, 0)
    assert one.eval.every == steps // 10


@pytest.mark.parametrize("row", DILATED, ids=lambda row: f"{row[0]}-{row[1]}")
def test_dilated_original_differs_only_in_what_makes_it_dilated(row: tuple):
    head, dataset, batch, miou, fps = row
    dilated = recipes.load(f"dilated_r50_{head}_{dataset}_80k_b{batch}")
    assert dilated.published is not None
    assert (dilated.published.miou, dilated.published.fps) == (miou, fps)
    differences = dilated.differences(recipes.load(f"fastfcn_r50_{head}_{dataset}_80k_b{batch}"))
    keys = {key for key, *_ in differences if key.split(".")[0] not in ("name", "aliases", "summary", "published")}
    assert keys == {"backbone.strides", "neck.kind", "neck.width", "neck.dilations", "neck.align_corners"}
    assert (dilated.backbone.strides, dilated.backbone.dilations) == ((1, 2, 1, 1), (1, 1, 2, 4))


@pytest.mark.parametrize("depth", [18, 50])
def test_camvid_baselines_differ_only_in_dilation(depth: int):
    dilated, ours = recipes.load(f"dilated_r{depth}_psp_camvid"), recipes.load(f"fastfcn_r{depth}_psp_camvid")
    keys = {key for key, *_ in dilated.differences(ours)} - {"name", "summary"}
    neck = {"neck.kind", "neck.width", "neck.dilations", "neck.align_corners"}
    assert keys == {"backbone.strides", "backbone.dilations", *neck}


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_alias_of_openmmlab_is_the_recipe(alias: str, name: str):
    assert recipes.load(alias).name == name


def test_no_two_recipes_share_an_alias():
    aliases = [alias for name in recipes.names() for alias in recipes.load(name).aliases]
    assert len(set(aliases)) == len(aliases) == 44
    assert not set(aliases) & set(recipes.names())
