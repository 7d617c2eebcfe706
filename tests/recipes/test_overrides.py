"""Overrides: changes of the text, marks, and which are refused."""

import pytest

from fastfcn import recipes
from fastfcn.errors import RecipeError

PSP = "fastfcn_r50_psp_cityscapes_80k_b8"
JPU = 'neck={kind="jpu", width=512, dilations=[1, 2, 4, 8], align_corners=false}'


@pytest.fixture(scope="module")
def psp() -> recipes.Recipe:
    return recipes.load(PSP)


def changed_lines(one: recipes.Recipe, *changes: str) -> list[str]:
    before, after = one.text.splitlines(), one.override(changes).text.splitlines()
    return [line for line in after if line not in before]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("optim.lr=0.02", "lr = 0.02  # was 0.01"),
        ("optim.lr = 2e-2", "lr = 2e-2  # was 0.01"),
        ("optim.lr=1", "lr = 1  # was 0.01"),
        ("seed=3", "seed = 3  # was 0"),
        ("eval.flip=false", "flip = false  # was true"),
        ("data.crop=[256, 512]", "crop = [256, 512]  # was [512, 1024]"),
        ('eval.resize="none"', 'resize = "none"  # was [1024, 2048]'),
        ("eval.resize=none", 'resize = "none"  # was [1024, 2048]'),
        ("data.dataset=camvid", 'dataset = "camvid"  # was "cityscapes"'),
        ("data.dataset='camvid'", "dataset = 'camvid'  # was \"cityscapes\""),
        ("data.dataset=../sets/my set.toml", 'dataset = "../sets/my set.toml"  # was "cityscapes"'),
        ("backbone.pretrained=~/r50.npz", 'pretrained = "~/r50.npz"  # was "openmmlab"'),
        ("backbone.pretrained=C:\\r50.npz", 'pretrained = "C:\\\\r50.npz"  # was "openmmlab"'),
        ("summary=a = b", None),
        ('data.val_split="a = b; c"', 'val_split = "a = b; c"  # was "val"'),
    ],
)  # fmt: skip
def test_a_change_is_made_and_marked(psp: recipes.Recipe, change: str, line: str | None):
    if line is None:
        with pytest.raises(RecipeError, match="not TOML: a = b"):
            psp.override([change])
    else:
        assert changed_lines(psp, change) == [line]


def test_values_change_with_the_text(psp: recipes.Recipe):
    other = psp.override(["optim.lr=1", "data.crop=[256, 512]"])
    assert (other.optim.lr, other.data.crop) == (1.0, (256, 512))
    assert (psp.optim.lr, psp.data.crop) == (0.01, (512, 1024))
    assert recipes.load(PSP, ["optim.lr=1", "data.crop=[256, 512]"]).text == other.text
    assert psp.override([]) is psp


def test_the_mark_keeps_the_first_value(psp: recipes.Recipe):
    once = psp.override(["optim.lr=0.02", "optim.lr=0.03"])
    assert "lr = 0.03  # was 0.01\n" in once.text
    assert once.override(["optim.lr=0.04"]).text == psp.override(["optim.lr=0.04"]).text


def test_a_value_changed_back_loses_its_mark(psp: recipes.Recipe):
    there = ["optim.lr=0.02", "eval.flip=false", "data.dataset=camvid", "published.miou=1"]
    back = ["optim.lr=0.01", "eval.flip=true", "data.dataset=cityscapes", "published.miou=79.26"]
    assert psp.override(there).override(back).text == psp.text


def test_a_change_to_the_same_value_changes_nothing(psp: recipes.Recipe):
    assert psp.override(["optim.lr=1e-2", "data.crop=[512,1024]", JPU]).text == psp.text
    once = psp.override(["optim.lr=0.02"])
    assert once.override(["optim.lr=0.02"]).text == once.text


def test_a_marked_text_is_loaded_as_it_is(psp: recipes.Recipe):
    marked = psp.override(["optim.lr=0.02", 'neck={kind="none"}', "backbone.strides=[1,2,1,1]"])
    loaded = recipes.parse(marked.text, "saved")
    assert loaded.text == marked.text
    assert loaded == marked
    assert loaded.override(["optim.lr=0.01", JPU, "backbone.strides=[1, 2, 2, 2]"]).text == psp.text


@pytest.mark.parametrize(
    ("comment", "marked"),
    [
        ("  # my choice", "  # was 0.01; my choice"),
        (" # was it good?", "  # was 0.01; was it good?"),
        (" #", "  # was 0.01"),
        ("  # a; b", "  # was 0.01; a; b"),
    ],
)
def test_a_comment_stays_next_to_the_mark(psp: recipes.Recipe, comment: str, marked: str):
    mine = recipes.parse(psp.text.replace("\nlr = 0.01\n", f"\nlr = 0.01{comment}\n"), "mine")
    once = mine.override(["optim.lr=0.02"])
    assert f"\nlr = 0.02{marked}\n" in once.text
    assert once.override(["optim.lr=0.03"]).text == once.text.replace("0.02", "0.03")


def test_a_comment_is_left_when_the_mark_goes(psp: recipes.Recipe):
    mine = recipes.parse(psp.text.replace("\nlr = 0.01\n", "\nlr = 0.01  # my choice\n"), "mine")
    assert mine.override(["optim.lr=0.02"]).override(["optim.lr=0.01"]).text == mine.text


def test_an_old_text_with_a_semicolon_is_read_back(psp: recipes.Recipe):
    mine = recipes.parse(psp.text.replace('"PSPNet on JPU, ', '"PSPNet; "'[:-1]), "mine")
    once = mine.override(["summary=short"])
    assert '"short"  # was "PSPNet; ResNet-50' in once.text
    assert once.override([f'summary="{mine.summary}"']).text == mine.text


def test_a_list_over_several_lines_is_marked_on_one(psp: recipes.Recipe):
    mine = recipes.parse(psp.text.replace("crop = [512, 1024]", "crop = [\n  512,  # height\n  1024,\n]"), "mine")
    assert "\ncrop = [1, 2]  # was [512, 1024]\n" in mine.override(["data.crop=[1, 2]"]).text


def test_a_complete_section(psp: recipes.Recipe):
    change = 'head={kind="aspp", width=256, dilations=[1, 12], kernel=3, dropout=0, align_corners=false}'
    before = '{kind = "psp", width = 512, pools = [1, 2, 3, 6], kernel = 3, dropout = 0.1, align_corners = false}'
    other = psp.override([change])
    expected = f"""
align_corners = false

[head]  # was {before}
kind = "aspp"
width = 256
dilations = [1, 12]
kernel = 3
dropout = 0
align_corners = false

[auxiliary]
"""
    assert expected in other.text
    assert (other.head.kind, other.head.width) == ("aspp", 256)
    back = "head=" + before
    assert other.override(["head.width=128", back]).text == psp.text


def test_a_section_keeps_its_first_values_after_changes_within(psp: recipes.Recipe):
    other = psp.override(["neck.width=64", 'neck={kind="none"}'])
    assert other.text == psp.override(['neck={kind="none"}']).text
    assert other.override([JPU]).text == psp.text


def test_the_last_section_and_the_comment_before_the_next(psp: recipes.Recipe):
    text = psp.text.replace("\n[auxiliary]", "\n# what helps in training\n[auxiliary]")
    other = recipes.parse(text, "mine").override(
        [
            'head={kind="fcn",width=8,depth=1,kernel=1,dropout=0.1,align_corners=false}',
            'published={source="us"}',
        ]
    )
    assert "\nalign_corners = false\n\n# what helps in training\n[auxiliary]\n" in other.text
    assert other.text.endswith('\nsource = "us"\n')


def test_new_keys_are_marked_as_added():
    demo = recipes.load("demo")
    other = demo.override(['published={source="us"}', "published.miou=60", "published.miou=61"])
    assert other.text == demo.text + '\n[published]  # added\nsource = "us"\nmiou = 61  # added\n'
    assert recipes.parse(other.text, "saved").text == other.text


def test_a_section_written_on_one_line(psp: recipes.Recipe):
    start, rest = psp.text.split("[neck]\n")
    neck, rest = rest.split("\n\n", 1)
    line = "neck = {" + ", ".join(neck.splitlines()) + "}\n"
    mine = recipes.parse(start.replace("seed = 0\n", "seed = 0\n" + line) + rest, "mine")
    assert mine == psp
    other = mine.override(["neck.width=64"])
    assert other.neck.width == 64
    assert line.replace("512", "64").strip() + "  # was {" in other.text
    assert recipes.parse(other.text, "saved").override(["neck.width=512"]).text == mine.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optim.lr", "'optim.lr' has no '='.\nWrite key=value, for example optim.lr=0.02"),
        ("=3", "'=3' has no key before its '='"),
        ("optim..lr=3", "'optim..lr=3' has no key before its '='"),
        ("optim.lr=", "has a value that is not TOML: nothing"),
        ("data.crop=[1, 2", "has a value that is not TOML: [1, 2"),
        ("optim.lr=1\nseed=2", "has a value that is not TOML"),
        ("optimizer.lr=1", "does not name a section of the recipe.\nSections: data, backbone, neck, head"),
        ("optim.lr.start=1", "does not name a section of the recipe"),
        ("head=aspp", 'would replace the section [head] by a single value.\nSet one of its keys (head.KEY=value)'),
        ("optim.lrr=1", 'optim.lrr: unknown key; allowed: kind, lr, head_lr_factor'),
        ("lr=1", 'lr: unknown key; allowed: format, name'),
        ("lr=1", 'did you mean "optim.lr"?'),
        ("optim.lr=fast", 'optim.lr: found "fast"; allowed: a number above 0'),
        ("optim.steps=1.0", "optim.steps: found 1.0; allowed: an integer from 1 to 4294967295"),
        ("eval.flip=1", "eval.flip: found 1; allowed: true or false"),
        ("head.kind=aspp", 'give the whole section, for example neck={kind="none"}'),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_made_says_why(psp: recipes.Recipe, change: str, says: str):
    with pytest.raises(RecipeError) as caught:
        psp.override([change])
    assert says in str(caught.value)


def test_errors_of_several_changes_come_together(psp: recipes.Recipe):
    with pytest.raises(RecipeError) as caught:
        psp.override(["optim.lr=-1", "data.flip=2", "schedule.min_lr=-2"])
    assert caught.value.message.splitlines() == [
        f"Recipe '{PSP}' with optim.lr=-1 data.flip=2 schedule.min_lr=-2 is not a valid recipe:",
        "  data.flip: found 2; allowed: a probability from 0 to 1",
        "  optim.lr: found -1; allowed: a number above 0",
        "  schedule.min_lr: found -2; allowed: a number of at least 0",
    ]


def test_another_kind_keeps_the_keys_that_both_have(psp: recipes.Recipe):
    changes = ["optim.kind=adamw", "optim.betas=[0.9, 0.999]", "optim.lr=0.001"]
    other = psp.override(changes)
    assert other.optim.kind == "adamw"
    shared = {"head_lr_factor", "weight_decay", "steps", "batch", "clip_norm", "ema"}
    assert other.optim.model_dump(include=shared) == psp.optim.model_dump(include=shared)
    assert '\n[optim]  # was {kind = "sgd", lr = 0.01, ' in other.text
    assert '\nkind = "adamw"\nlr = 0.001  # was 0.01\n' in other.text
    assert recipes.parse(other.text, "saved") == other
    back = "optim={" + ", ".join(psp.text.split("[optim]\n")[1].split("\n\n")[0].splitlines()) + "}"
    assert other.override([back]).text == psp.text


def test_another_kind_needs_no_more_if_it_has_no_other_keys(psp: recipes.Recipe):
    assert psp.override(["neck.kind=none"]).text == psp.override(['neck={kind="none"}']).text
    cosine = psp.override(["schedule.kind=cosine"]).schedule
    assert cosine.model_dump() == {"kind": "cosine", "warmup_steps": 0, "min_lr": 0.0001}
    assert psp.override(["neck.kind=jpu"]).text == psp.text


def test_epochs_replace_steps_and_the_other_way_round(psp: recipes.Recipe):
    epochs = psp.override(["optim.epochs=240"])
    assert (epochs.optim.epochs, epochs.optim.steps) == (240, None)
    assert epochs.text == psp.text.replace("steps = 80000\n", "epochs = 240  # was steps = 80000\n")
    loaded = recipes.parse(epochs.text, "saved")
    assert loaded.override(["optim.steps=80000"]).text == psp.text
    assert "\nsteps = 7  # was 80000\n" in loaded.override(["optim.steps=7"]).text
    assert "\nepochs = 3  # was steps = 80000\n" in loaded.override(["optim.steps=7", "optim.epochs=3"]).text
    whole = loaded.override(['optim={kind="sgd"}'.replace("}", f", {_optim_without_steps(psp)}, steps=5}}")])
    assert "[optim]  # was {kind = " in whole.text
    assert "steps = 80000" in whole.text.split("[optim]")[1].splitlines()[0]
    assert whole.steps == 5


def _optim_without_steps(psp: recipes.Recipe) -> str:
    lines = psp.text.split("[optim]\n")[1].split("\n\n")[0].splitlines()[1:]
    return ", ".join(line for line in lines if not line.startswith("steps"))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("steps = 80000\n", "", "optim.steps: missing; either optim.steps or optim.epochs must be written"),
        ("steps = 80000\n", "steps = 80000\nepochs = 3\n",
         "optim.epochs: found 3, but optim.steps = 80000; allowed: one of them"),
    ],
)  # fmt: skip
def test_neither_and_both_of_two_alternatives(psp: recipes.Recipe, old: str, new: str, line: str):
    with pytest.raises(RecipeError) as caught:
        recipes.parse(psp.text.replace(old, new), "mine.toml")
    assert caught.value.message.splitlines()[1:] == ["  " + line]


def test_epochs_in_a_section_on_one_line(psp: recipes.Recipe):
    start, rest = psp.text.split("[optim]\n")
    section, rest = rest.split("\n\n", 1)
    line = "optim = {" + ", ".join(section.splitlines()) + "}\n"
    mine = recipes.parse(start.replace("seed = 0\n", "seed = 0\n" + line) + rest, "mine")
    other = mine.override(["optim.epochs=2"])
    assert (other.optim.epochs, other.optim.steps) == (2, None)
    assert other.override(["optim.steps=80000"]) == psp
