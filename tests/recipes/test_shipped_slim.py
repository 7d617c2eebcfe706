"""The slim family's recipes: names, training, and networks that accept any size."""

import pytest
import timm
import torch

from fastfcn import build, recipes

# The slim family: backbone of timm by what follows "fastfcn_".
SLIM = {
    **{f"r{depth}_jpu_{size}_camvid": f"resnet{depth}" for depth in (18, 50) for size in "sml"},
    **{f"r{depth}_jpu_m_camvid": f"resnet{depth}" for depth in (34, 101)},
    "convnext_tiny_jpu_m_camvid": "convnext_tiny",
    "efficientnetv2_s_jpu_m_camvid": "tf_efficientnetv2_s",
    "lite0_jpu_s_camvid": "tf_efficientnet_lite0",
    "lite2_jpu_m_camvid": "tf_efficientnet_lite2",
    "mobilenetv4_jpu_m_camvid": "mobilenetv4_conv_medium",
    "swin_tiny_jpu_m_camvid": "swin_tiny_patch4_window7_224",
    "r50_jpu_m_cityscapes": "resnet50c",
    "r50_jpu_m_ade20k": "resnet50c",
}
LAYER_NORMS = ("convnext_", "swin_")  # trained with AdamW, with the same data, losses, steps and batch
WIDTHS = {"s": 96, "m": 128, "l": 256}
NOT_COMPARED = {"name", "aliases", "summary"}


@pytest.mark.parametrize(("slim", "backbone"), SLIM.items())
def test_slim_recipe_is_what_its_name_says(slim: str, backbone: str):
    one = recipes.load(f"fastfcn_{slim}")
    width, data = WIDTHS[slim.split("_")[-2]], slim.split("_")[-1]
    assert (one.backbone.name, one.data.dataset, one.published, one.weight_init) == (backbone, data, None, "pytorch")
    assert one.neck.model_dump() == {"kind": "jpu", "width": width, "dilations": (1, 2, 4, 8), "align_corners": False}
    assert (one.head.kind, one.head.width, one.head.kernel, one.head.se_loss_weight) == ("enc", width, 1, 0.2)


@pytest.mark.parametrize(("slim", "backbone"), SLIM.items())
def test_slim_network_takes_any_size(slim: str, backbone: str):
    with torch.device("meta"):
        model = build.create(f"fastfcn_{slim}", classes=5).eval()
        assert tuple(model.logits(torch.empty(1, 3, 45, 83)).shape) == (1, 5, 6, 11)
        assert tuple(model(torch.empty(2, 3, 45, 83)).shape) == (2, 5, 45, 83)


@pytest.mark.parametrize("slim", [slim for slim in SLIM if slim.endswith("camvid")])
def test_slim_recipes_of_camvid_train_as_the_first_did(slim: str):
    """They differ from the recorded run in the network and in the normalization of its pretrained weights."""
    one = recipes.load(f"fastfcn_{slim}")
    differences = one.differences(recipes.load("fastfcn_r50_psp_camvid"))
    keys = {key for key, *_ in differences if key.split(".")[0] not in ("backbone", "neck", "head")}
    if slim.startswith(LAYER_NORMS):
        assert (one.optim.kind, one.schedule.kind, one.drop_path.kind) == ("adamw", "cosine", "linear")
        assert (one.optim.layer_decay, one.optim.decay_norm_and_bias) == (0.9, False)
        of_optimizer = set(type(one.optim).model_fields) | {"momentum"}
        keys -= {f"optim.{key}" for key in of_optimizer - {"steps", "batch", "ema", "clip_norm"}}
        keys -= {key for key in keys if key.startswith(("schedule.", "drop_path."))}
    assert keys - NOT_COMPARED - {"data.mean", "data.std"} == set()


@pytest.mark.parametrize("name", [name for name in recipes.names() if recipes.load(name).data.dataset == "camvid"])
def test_images_are_normalized_as_the_weights_of_imagenet_were_trained(name: str):
    one = recipes.load(name)
    trained = timm.get_pretrained_cfg(one.backbone.name)
    assert trained is not None
    assert one.backbone.pretrained == "imagenet"
    assert one.data.mean == pytest.approx([255 * value for value in trained.mean])
    assert one.data.std == pytest.approx([255 * value for value in trained.std])


@pytest.mark.parametrize(("data", "batch"), [("cityscapes", 8), ("ade20k", 16)])
def test_slim_recipe_trains_as_the_published_row(data: str, batch: int):
    differences = recipes.load(f"fastfcn_r50_jpu_m_{data}").differences(
        recipes.load(f"fastfcn_r50_enc_{data}_80k_b{batch}")
    )
    keys = {key for key, *_ in differences if not key.startswith("published.")} - NOT_COMPARED
    assert keys == {"weight_init", "backbone.dilations", "neck.width", "head.width", "head.kernel"}


@pytest.mark.parametrize("depth", [18, 50])
def test_slim_baselines_differ_only_in_dilation(depth: int):
    original = recipes.load(f"dilated_r{depth}_enc_camvid")
    assert (original.backbone.strides, original.backbone.dilations) == ((1, 2, 1, 1), (1, 1, 2, 4))
    assert (original.head.kind, original.head.width, original.head.kernel) == ("enc", 512, 3)
    keys = {key for key, *_ in original.differences(recipes.load(f"fastfcn_r{depth}_jpu_m_camvid"))} - NOT_COMPARED
    neck = {"neck.kind", "neck.width", "neck.dilations", "neck.align_corners"}
    assert keys == {"backbone.strides", "backbone.dilations", "head.width", "head.kernel", *neck}
