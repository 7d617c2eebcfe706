"""The official recipes: published scores, and the options of the scripts."""

import pytest

from fastfcn import recipes
from fastfcn.recipes.recipe import Recipe

# The official code: depth, head, end of the name, script, steps, lr, mIoU, mIoU (ms+flip), frames per second; and
# the score on ADE20K's test set. https://github.com/wuhuikai/FastFCN, README.md and experiments/segmentation/scripts
OFFICIAL = [
    (50, "enc", "pcontext", "encnet_res50_pcontext", 80 * 312, 0.001, 51.05, None, 37.56, None),
    (50, "psp", "pcontext", "psp_res50_pcontext", 80 * 312, 0.001, 50.89, None, 28.48, None),
    (50, "deeplabv3", "pcontext", "deeplab_res50_pcontext", 80 * 312, 0.001, 50.07, None, 20.67, None),
    (101, "enc", "pcontext", "encnet_res101_pcontext", 80 * 312, 0.001, None, 54.03, 32.02, None),
    (50, "enc", "ade20k", "encnet_res50_ade20k_train", 120 * 1263, 0.01, None, 42.75, None, None),
    (101, "enc", "ade20k", "encnet_res101_ade20k_train", 120 * 1263, 0.01, None, 44.34, None, None),
    (50, "enc", "ade20k_trainval", "encnet_res50_ade20k_trainval", 20 * 1388, 0.001, None, None, None, None),
    (101, "enc", "ade20k_trainval", "encnet_res101_ade20k_trainval", 20 * 1388, 0.001, None, None, None, 55.84),
]


def official(row: tuple) -> Recipe:
    return recipes.load(f"official_r{row[0]}_{row[1]}_{row[2]}")


@pytest.mark.parametrize("row", OFFICIAL, ids=lambda row: row[3])
def test_published_scores_are_those_of_the_official_code(row: tuple):
    one, published = official(row), official(row).published
    assert recipes.load(row[3]) == one
    assert published is not None
    assert (published.miou, published.miou_tta, published.fps, published.final_score) == row[6:]
    assert published.source.startswith("https://github.com/wuhuikai/FastFCN/tree/126661b")
    assert published.weights is not None
    assert published.weights.startswith("https://drive.google.com/open?id=")


@pytest.mark.parametrize("row", OFFICIAL, ids=lambda row: row[3])
def test_official_recipes_train_like_the_official_code(row: tuple):
    """Epochs of 4998, 20210 or 22210 images in full batches of 16; default options, except those that a script sets."""
    one = official(row)
    trainval = row[2] == "ade20k_trainval"
    assert (one.optim.steps, one.optim.lr, one.optim.batch, one.eval.every) == (row[4], row[5], 16, row[4] // 10)
    assert (one.optim.head_lr_factor, one.optim.momentum, one.optim.weight_decay) == (10.0, 0.9, 0.0001)
    assert (one.schedule.power, one.schedule.min_lr, one.schedule.end) == (0.9, 0.0, "after_last_step")
    assert one.loss.model_dump() == {
        "kind": "cross_entropy",
        "mean_over": "labeled",
    }
    assert one.auxiliary.loss_weight == (0.2 if row[1] == "enc" else 0.4)
    assert one.head.kind != "enc" or one.head.se_loss_weight == 0.2
    assert one.data.train_split == ("train+val" if trainval else "train")
    assert one.data.dataset == ("pascal_context_59" if row[2] == "pcontext" else "ade20k")
    assert one.load_from == (f"official_r{row[0]}_enc_ade20k.safetensors" if trainval else "none")
    changes = {"train_split", "dataset"}
    assert one.data.model_dump(exclude=changes) == official(OFFICIAL[0]).data.model_dump(exclude=changes)
    assert one.backbone.model_dump() == {
        "kind": "resnet",
        "name": f"resnet{row[0]}s",
        "pretrained": "official",
        "strides": (1, 2, 2, 2),
        "dilations": (1, 1, 1, 1),
        "style": "pytorch",
    }


def test_augmentation_and_windows_of_the_official_code():
    one = official(OFFICIAL[0])
    data = one.data
    assert (data.scale_by, data.base_size, data.scale_range) == ("short_side", (520, 520), (0.5, 2.0))
    assert (data.interpolation, data.padding, data.crop) == ("pillow", "black", (480, 480))
    assert (data.flip, data.blur, data.photometric_distortion, data.rotate, data.cat_max_ratio) == (
        0.5,
        0.5,
        0.0,
        0.0,
        1.0,
    )
    assert one.eval.model_dump(exclude={"every"}) == {
        "kind": "sliding",
        "base_size": 520,
        "crop": 480,
        "stride": 320,
        "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        "flip": True,
    }
