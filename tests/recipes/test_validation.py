"""All errors of a recipe are reported together, one per line: key, value, allowed values."""

import re
import tomllib

import pytest

from fastfcn import recipes
from fastfcn.errors import RecipeError
from fastfcn.recipes.validation import RULES, flatten, toml_text

HEADS = '"psp", "aspp", "deeplabv3", "enc", "enc_skip", "fcn", "ocr", "upernet"'
PSP = recipes.load("fastfcn_r50_psp_cityscapes_80k_b8")
WINDOWS = 'eval={kind="sliding",every=1,base_size=520,crop=480,stride=320,scales=[1.0],flip=true}'


def complaints(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipes.parse(text, "mine.toml")
    first, *lines = caught.value.message.splitlines()
    assert first == "mine.toml is not a valid recipe:"
    return [line.removeprefix("  ") for line in lines]


def changed(**replacements: str) -> str:
    """The recipe's text with the lines `key = ...` replaced, in any section."""
    text = PSP.text
    for key, line in replacements.items():
        text, count = re.subn(rf"(?m)^{key} = .*\n", line and line + "\n", text)
        assert count, key
    return text


def test_all_errors_of_a_file_come_at_once():
    text = changed(
        seed="seed = -1",
        crop="corp = [512, 1024]",
        pretrained='pretrained = ""',
        style='style = "cafe"',
        pools="pools = []",
        lr='lr = "0.01"',
        steps="",
        loss_weight="loss_weight = -0.4",
        min_lr="min_lr = nan",
        miou="miou = 791",
    )
    assert sorted(complaints(text)) == sorted(
        [
            "seed: found -1; allowed: an integer from 0 to 4294967295",
            "data.crop: missing; every key must be written",
            "data.corp: unknown key; allowed: dataset, train_split, val_split, bands, mean, std, scale_by, "
            "base_size, scale_range, interpolation, rotate, crop, padding, cat_max_ratio, flip, "
            "photometric_distortion, blur; "
            'did you mean "crop"?',
            'backbone.pretrained: found ""; allowed: a string in quotes',
            'backbone.style: found "cafe"; allowed: "pytorch", "caffe"; did you mean "caffe"?',
            "head.pools: found []; allowed: a list of integers from 1 to 4294967295",
            'optim.lr: found "0.01"; allowed: a number above 0',
            "optim.steps: missing; either optim.steps or optim.epochs must be written",
            "schedule.min_lr: found nan; allowed: a number of at least 0",
            "published.miou: found 791; allowed: a percentage from 0 to 100",
            "auxiliary.loss_weight: found -0.4; allowed: a number of at least 0",
        ]
    )  # fmt: skip


def test_an_empty_file_misses_every_section_and_nothing_optional():
    lines = complaints("")
    sections = ["data", "backbone", "neck", "head", "auxiliary", "loss"]
    sections += ["optim", "schedule", "freeze", "drop_path", "early_stop", "crops", "colors", "mix", "eval"]
    assert [line for line in lines if "section" in line] == [
        f"{key}: the section [{key}] is missing" for key in sections
    ]
    assert len(lines) == len(sections) + len(
        ["format", "name", "aliases", "summary", "seed", "load_from", "weight_init"]
    )


@pytest.mark.parametrize(
    ("key", "bad", "allowed"),
    [
        ("data.crop", "[0, 5]", "[height, width], integers of at least 1"),
        ("data.crop", "[512]", "[height, width], integers of at least 1"),
        ("data.crop", "[512.0, 512]", "[height, width], integers of at least 1"),
        ("data.crop", "512", "[height, width], integers of at least 1"),
        ("data.scale_range", "[2.0, 0.5]", "[low, high], above 0"),
        ("data.std", "[1, 2, 0]", "[red, green, blue], three numbers above 0, or one per band"),
        ("data.mean", "[1, 2]", "[red, green, blue], three numbers"),
        ("data.flip", "1.5", "a probability from 0 to 1"),
        ("data.flip", "true", "a probability from 0 to 1"),
        ("data.blur", "2", "a probability from 0 to 1"),
        ("data.rotate", "-10", "degrees from 0 to 180"),
        ("data.scale_by", '"width"', '"box", "short_side"'),
        ("data.interpolation", '"linear"', '"opencv", "pillow"'),
        ("data.padding", "0", '"mean", "black"'),
        ("schedule.end", '"never"', '"last_step", "after_last_step"'),
        ("optim.clip_norm", "-1", "a number of at least 0"),
        ("optim.ema", "1.0", "a number from 0 to below 1"),
        ("data.cat_max_ratio", "0", "a fraction above 0, at most 1"),
        ("data.dataset", "3", "a string in quotes"),
        ("backbone.dilations", "[1, 1, 2]", "four integers of at least 1, one per stage"),
        ("backbone.strides", "[1, 2, 2, 4]", "four integers, each 1 or 2"),
        ("neck.align_corners", "0", "true or false"),
        ("head.kernel", "2", "an odd integer of at least 1"),
        ("head.dropout", "1.0", "a number from 0 to below 1"),
        ("auxiliary.stage", "4", "a stage from 0 to 3 (strides 4, 8, 16, 32)"),
        ("optim.batch", "0", "an integer from 1 to 4294967295"),
        ("optim.batch", "8.0", "an integer from 1 to 4294967295"),
        ("head.width", "99999999999999999999", "an integer from 1 to 4294967295"),
        ("optim.batch", "4294967296", "an integer from 1 to 4294967295"),
        ("optim.lr", "inf", "a number above 0"),
        (
            "eval.resize",
            '"all"',
            '[height, width], integers of at least 1, or "none" (the image\'s own size)',
        ),
        ("eval.scales", "[]", "a list of numbers above 0"),
        ("seed", "4294967296", "an integer from 0 to 4294967295"),
        ("published.fps", "0", "a number above 0"),
    ],
)
def test_a_bad_value_is_refused_with_the_allowed_values(key: str, bad: str, allowed: str):
    with pytest.raises(RecipeError) as caught:
        PSP.override([f"{key}={bad}"])
    assert caught.value.message.splitlines()[1:] == [f"  {key}: found {bad}; allowed: {allowed}"]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ('head={kind="x"}', f'head.kind: found "x"; allowed: {HEADS}'),
        ('neck={kind="jup"}', 'neck.kind: found "jup"; allowed: "jpu", "jpu_x", "none"; did you mean "jpu"?'),
        ("head={kind=[1]}", f"head.kind: found [1]; allowed: {HEADS}"),
        ("head={width=3}", "head.kind: missing; every key must be written"),
        ('neck={kind="none", width=3}', "neck.width: unknown key; allowed: kind"),
        ('neck={kind="none", pools=[3]}', 'neck.pools: unknown key; allowed: kind; did you mean "head.pools"?'),
        ('optim.kind="adam"', 'optim.kind: found "adam"; allowed: "sgd", "adamw"; did you mean "adamw"?'),
        ('schedule={kind="cos"}', 'schedule.kind: found "cos"; allowed: "poly", "cosine"; did you mean "cosine"?'),
        ('freeze={kind="stages", stages=5, norm_eval="none", unfreeze_step=0}',
         "freeze.stages: found 5; allowed: a number of stages from 1 to 4"),
        ('drop_path={kind="linear", rate=1}', "drop_path.rate: found 1; allowed: a number from 0 to below 1"),
        ('crops={kind="classes", probability=2, power=0.5}',
         "crops.probability: found 2; allowed: a probability from 0 to 1"),
        ('colors={kind="rand_augment", operations=2, magnitude=11}',
         "colors.magnitude: found 11; allowed: a magnitude from 0 to 10"),
        ('mix={kind="copy_paste", probability=0.5, classes=[]}',
         "mix.classes: found []; allowed: a list of class names in quotes"),
        ('early_stop={kind="patience", validations=0}',
         "early_stop.validations: found 0; allowed: an integer from 1 to 4294967295"),
    ],
)  # fmt: skip
def test_an_unknown_kind_and_the_keys_of_a_kind(section: str, line: str):
    with pytest.raises(RecipeError) as caught:
        PSP.override([section])
    assert caught.value.message.splitlines()[1:] == ["  " + line]


def test_a_value_where_a_section_belongs():
    start, rest = PSP.text.split("[neck]\n")
    text = start.replace("seed = 0\n", "seed = 0\nneck = 3\n") + rest.split("\n\n", 1)[1]
    assert complaints(text) == ["neck: found 3; allowed: a section [neck]"]
    assert complaints(PSP.text.replace("[head]", "[[head]]"))[0].startswith("head: found [{kind = ")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (["backbone.strides=[1, 2, 1, 1]"], "backbone.strides"),
        (["schedule.min_lr=0.1"], "schedule.min_lr"),
        ([WINDOWS.replace("320", "481")], "eval.stride"),
    ],
)
def test_values_that_contradict_each_other(changes: list[str], key: str):
    with pytest.raises(RecipeError) as caught:
        PSP.override(changes)
    (line,) = caught.value.message.splitlines()[1:]
    assert line.startswith(f"  {key}: found ")
    assert key in [rule.keys[0] for rule in RULES]


def test_every_rule_is_tried_by_the_test_above():
    assert sorted(rule.keys[0] for rule in RULES) == [
        "backbone.strides", "eval.stride", "schedule.min_lr",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        ['head={kind="enc",width=8,codewords=4,kernel=1,dropout=0,align_corners=false,se_loss_weight=0.2}'],
        ['auxiliary={kind="none"}'],
        ["backbone.strides=[1, 2, 1, 1]", 'neck={kind="none"}'],
        ['backbone={kind="pyramid",name="convnext_tiny",pretrained="imagenet"}'],
        ["schedule.min_lr=0.01"],
        ["optim.steps=2"],
        [WINDOWS.replace("320", "480")],
    ],
)
def test_unusual_but_valid_values_are_accepted(changes: list[str]):
    assert PSP.override(changes) != PSP


def test_a_rule_on_a_value_that_is_wrong_itself_adds_nothing():
    with pytest.raises(RecipeError) as caught:
        PSP.override(['head={kind="pspp"}', "backbone.strides=[1]"])
    assert [line.split(":")[0].strip() for line in caught.value.message.splitlines()[1:]] == [
        "backbone.strides", "head.kind",
    ]  # fmt: skip


def test_flatten_gives_dotted_keys_and_leaves_out_none():
    assert flatten({"seed": 0, "neck": {"kind": "jpu", "width": None}}) == {"seed": 0, "neck.kind": "jpu"}


def test_toml_text_reads_back():
    value = {"a": [1, 2.0, True], "b": 'say "hi"; # no', "c": {"d": ()}}
    assert tomllib.loads("v = " + toml_text(value))["v"] == {**value, "c": {"d": []}}


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        (
            'kind="ohem", threshold=1.5, min_kept=0.1',
            "loss.threshold: found 1.5; allowed: a fraction above 0, at most 1",
        ),
        ('kind="ohem", threshold=0.7, min_kept=0.1, mean_over="all"', "loss.mean_over: unknown key; allowed: kind, "),
        (
            'kind="dice", dice=0.0, cross_entropy=1.0, mean_over="all"',
            "loss.dice: found 0.0; allowed: a number above 0",
        ),
        (
            'kind="boundary", weight=3.0, width=65, mean_over="all"',
            "loss.width: found 65; allowed: a number of pixels from 1 to 64",
        ),
        (
            'kind="smoothed_cross_entropy", smoothing=1.0, mean_over="all"',
            "loss.smoothing: found 1.0; allowed: a number from 0 to below 1",
        ),
        ('kind="lovasz", lovasz=1.0, mean_over="all"', "loss.cross_entropy: missing; every key must be written"),
        (
            'kind="weighted_cross_entropy", weights=[1.0, 0.0], mean_over="all"',
            "loss.weights: found [1.0, 0.0]; allowed: a list of numbers above 0",
        ),
        ('kind="dise"', 'loss.kind: found "dise"; allowed: "cross_entropy", "weighted_cross_entropy", "smoothed_'),
    ],
)
def test_each_kind_of_loss_has_its_keys(section: str, complaint: str):
    with pytest.raises(RecipeError) as caught:
        PSP.override([f"loss={{{section}}}"])
    assert [line.strip() for line in caught.value.message.splitlines()][1].startswith(complaint)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("head.se_loss_weight=0.2", "head.se_loss_weight: unknown key; allowed: kind, width, pools, "),
        ('auxiliary={kind="none", loss_weight=0.4}', "auxiliary.loss_weight: unknown key; allowed: kind"),
    ],
)
def test_the_weight_of_an_extra_loss_belongs_to_the_part_that_has_it(change: str, line: str):
    with pytest.raises(RecipeError) as caught:
        PSP.override([change])
    assert caught.value.message.splitlines()[1].strip().startswith(line)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("data.max_class_share=1.0", "data.max_class_share: this key is now data.cat_max_ratio"),
        ("data.distort=0.5", "data.distort: this key is now data.photometric_distortion"),
        ("start=none", "start: this key is now load_from"),
        ("init=pytorch", "init: this key is now weight_init"),
        ("head.codes=32", "head.codes: this key is now head.codewords"),
        ("loss.auxiliary=0.4", "loss.auxiliary: this key is now auxiliary.loss_weight"),
        ("loss.presence=0.2", "loss.presence: this key is now head.se_loss_weight"),
        ("loss.at_least=0.1", "loss.at_least: this key is now loss.min_kept"),
        (
            "backbone.stride_in=conv1",
            "backbone.stride_in: this key is now backbone.style "
            '("pytorch" instead of "conv2", "caffe" instead of "conv1")',
        ),
        (
            "loss.mean_over=labelled",
            'loss.mean_over: found "labelled"; allowed: "all", "labeled"; did you mean "labeled"?',
        ),
    ],
)
def test_an_override_of_a_renamed_key_names_the_new_one(change: str, line: str):
    with pytest.raises(RecipeError) as caught:
        PSP.override([change])
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == [line]
