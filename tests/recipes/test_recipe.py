"""Loading, printing, saving and comparing recipes."""

from pathlib import Path

import pytest
import tomlkit

from fastfcn import recipes
from fastfcn.errors import RecipeError
from fastfcn.recipes.upgrades import ADDED_IN_2, SECTIONS_IN_4
from tests.helpers.paths import STORED

PAST = STORED / "recipes"
PSP = "fastfcn_r50_psp_cityscapes_80k_b8"


def test_values_are_frozen_throughout():
    one = recipes.load(PSP)
    assert one.data.crop == (512, 1024)
    assert one.eval.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    with pytest.raises(ValueError, match="frozen"):
        one.optim.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        one.seed = 1  # type: ignore[misc]


def test_equality_is_of_values_not_of_text():
    one = recipes.load(PSP)
    commented = recipes.parse(one.text.replace("lr = 0.01\n", "lr = 1e-2  # the usual\n"), "commented")
    assert commented == one
    assert hash(commented) == hash(one)
    assert one.override(["optim.lr=0.02"]) != one
    assert one != "fastfcn"


def test_differences_name_key_and_both_values_in_the_order_of_the_schema():
    one = recipes.load(PSP)
    other = one.override(["seed=1", 'neck={kind="none"}'])
    assert one.differences(other) == [
        ("seed", 0, 1),
        ("neck.kind", "jpu", "none"),
        ("neck.width", 512, None),
        ("neck.dilations", (1, 2, 4, 8), None),
        ("neck.align_corners", False, None),
    ]
    assert other.differences(one)[1] == ("neck.kind", "none", "jpu")
    assert one.differences(one) == []


def test_every_past_format_loads():
    files = sorted(PAST.glob("format_*.toml"))
    assert [file.stem for file in files] == [f"format_{number + 1}" for number in range(recipes.FORMAT)]
    for file in files:
        loaded = recipes.load(file)
        assert (loaded.name, loaded.seed, loaded.data.crop) == ("ours", 7, (384, 768))
        assert (loaded.backbone.name, loaded.head.kind, loaded.optim.steps) == ("convnext_tiny", "enc", 2000)
        assert loaded.data.scale_range == (0.5, 2.0)
    assert recipes.load(PAST / f"format_{recipes.FORMAT}.toml").text == files[-1].read_text()


def test_an_older_format_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch):
    """A future format: a key is renamed, the rest of the text is unchanged."""

    def rename(document: tomlkit.TOMLDocument) -> None:
        section = document["loss"]
        section["mean_over"] = section.pop("average_over")  # type: ignore[union-attr, index]

    nothing = dict.fromkeys(range(1, recipes.FORMAT), lambda _: None)
    monkeypatch.setattr("fastfcn.recipes.recipe.UPGRADES", {0: rename, **nothing})
    text = recipes.load(PSP).text
    loaded = recipes.parse(text.replace("format = 4", "format = 0").replace("mean_over", "average_over"), "old")
    assert loaded == recipes.load(PSP)
    assert sorted(loaded.text.splitlines()) == sorted(text.splitlines())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_past_formats_are_rewritten_in_the_current_one(number: int):
    """The text is unchanged except for the format number: comments, marks and layout stay."""
    old, new = PAST / f"format_{number}.toml", PAST / "format_4.toml"
    upgraded = recipes.load(old)
    assert upgraded.text.replace(f"A recipe of format {number}", "A recipe of format 4") == new.read_text()
    assert upgraded == recipes.load(new)
    assert (upgraded.load_from, upgraded.data.scale_by, upgraded.data.interpolation) == ("none", "box", "opencv")
    assert (upgraded.data.rotate, upgraded.data.padding, upgraded.data.blur) == (0.0, "mean", 0.0)
    assert (upgraded.schedule.end, upgraded.optim.clip_norm, upgraded.optim.ema) == ("last_step", 0.0, 0.0)
    assert upgraded.eval.kind == "whole"
    assert (upgraded.optim.layer_decay, upgraded.optim.decay_norm_and_bias) == (1.0, True)
    assert {getattr(upgraded, section).kind for section in SECTIONS_IN_4} == {"none"}


@pytest.mark.parametrize("name", ["fastfcn_r50_aspp_ade20k_160k_b16", PSP, "dilated_r50_enc_ade20k_80k_b16"])
def test_a_shipped_recipe_as_an_older_format_becomes_itself(name: str):
    text = recipes.load(name).text
    third = _as_format_3(text)
    second = _as_format_2(third)
    first = _as_format_1(second)
    assert len(second.splitlines()) - len(first.splitlines()) == len(ADDED_IN_2)
    for old in (first, second, third):
        assert recipes.parse(old, "old").text == text
        windows = recipes.parse(old.replace("\n", "\r\n"), "old, from Windows")
        assert windows.text == text.replace("\n", "\r\n")


def test_format_1_with_sections_on_one_line_and_with_dotted_keys():
    text = _as_format_1(_as_format_2(_as_format_3(recipes.load(PSP).text)))
    start, rest = text.split("[data]\n")
    data, rest = rest.split("\n\n", 1)
    on_one_line = f"{start}data = {{{', '.join(data.splitlines())}}}\n\n{rest}"
    dotted = start + "".join(f"data.{line}\n" for line in data.splitlines()) + "\n" + rest
    for other in (on_one_line, dotted):
        upgraded = recipes.parse(other, "mine.toml")
        assert upgraded == recipes.load(PSP)
        assert recipes.parse(upgraded.text, "again").text == upgraded.text


def test_format_3_with_its_schedule_on_one_line_and_with_dotted_keys():
    text = _as_format_3(recipes.load(PSP).text)
    start, rest = text.split("[optim]\n")
    optim, rest = rest.split("\n\n", 1)
    top, sections = start.split("[data]")
    on_one_line = f"{top}optim = {{{', '.join(optim.splitlines())}}}\n\n[data]{sections}{rest}"
    dotted = top + "".join(f"optim.{line}\n" for line in optim.splitlines()) + "\n[data]" + sections + rest
    last = f"{start}{rest}\n[optim]\n{optim}"  # without a line end
    for other in (on_one_line, dotted, last):
        upgraded = recipes.parse(other, "mine.toml")
        assert upgraded == recipes.load(PSP)
        assert recipes.parse(upgraded.text, "again").text == upgraded.text


def test_comments_follow_their_keys_into_the_schedule():
    text = _as_format_3(recipes.load(PSP).text)
    text = text.replace("\npower = 0.9\n", "\n# slower than a line\npower = 0.8  # was 0.9\n")
    text = text.replace("\nbatch = 8\n", "\n\n# of two on each of four\nbatch = 8\n")
    upgraded = recipes.parse(text.replace("\n[eval]", "\n# now the scores\n[eval]"), "mine.toml")
    assert "\nmin_lr = 0.0001\n# slower than a line\npower = 0.8  # was 0.9\nend = " in upgraded.text
    assert "\nsteps = 80000\n\n# of two on each of four\nbatch = 8\n" in upgraded.text
    assert '[mix]\nkind = "none"\n\n# now the scores\n[eval]\n' in upgraded.text
    assert upgraded.override(["schedule.power=0.9"]) == recipes.load(PSP)


def test_marks_of_overrides_are_upgraded_with_their_values():
    old = _as_format_2(_as_format_3(recipes.load(PSP).text))
    old = old.replace('stride_in = "conv2"', 'stride_in = "conv1"  # was "conv2"; as in Caffe')
    old = old.replace("auxiliary = 0.4", "auxiliary = 0.2  # was 0.4")
    upgraded = recipes.parse(old, "old")
    assert 'style = "caffe"  # was "pytorch"; as in Caffe\n' in upgraded.text
    assert "loss_weight = 0.2  # was 0.4\n" in upgraded.text
    assert upgraded.override(["auxiliary.loss_weight=0.4"]).auxiliary == recipes.load(PSP).auxiliary


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("auxiliary = 0.4\npresence = 0.2", "loss.presence"),  # of a head without it: already refused in format 2
        ('auxiliary = "0.4"\npresence = 0.0', "auxiliary.loss_weight"),
    ],
)
def test_weights_that_were_wrong_before_still_are(section: str, key: str):
    old = _as_format_2(_as_format_3(recipes.load(PSP).text)).replace("auxiliary = 0.4\npresence = 0.0", section)
    with pytest.raises(RecipeError, match=key):
        recipes.parse(old, "old")


def test_keys_missing_in_format_1_are_reported_with_their_current_names():
    with pytest.raises(RecipeError) as caught:
        recipes.parse('format = 1\neval = 3\n[optim]\nkind = "sgd"\nsteps = 5\n', "old.toml")
    lines = caught.value.message.splitlines()
    assert "  data: the section [data] is missing" in lines
    assert "  eval: found 3; allowed: a section [eval]" in lines
    assert "  optim.batch: missing; every key must be written" in lines
    assert not [line for line in lines if "clip_norm" in line]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", "has format 5; this version of fastfcn reads formats up to 4"),
        ("0", "has format 0, which does not exist"),
        ('"1"', 'format: found "1"; allowed: 4'),
        ("true", "format: found true; allowed: 4"),
    ],
)
def test_a_format_nobody_knows_is_refused(value: str, message: str):
    with pytest.raises(RecipeError, match=message):
        recipes.parse(recipes.load(PSP).text.replace("format = 4", f"format = {value}"), "mine.toml")


def test_other_line_ends_survive():
    text = recipes.load(PSP).text.replace("\n", "\r\n")
    loaded = recipes.parse(text, "from Windows")
    assert loaded.text == text
    assert loaded.override(["optim.lr=0.02"]).override(["optim.lr=0.01"]).text == text


def test_file_with_byte_order_mark_and_home_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + recipes.load(PSP).text.encode())
    assert recipes.load("~/mine.toml") == recipes.load(PSP)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fastfcn_r50_psp_cityscapes_80k", f'There is no recipe .*; did you mean "{PSP}"'),
        (
            "pspnet_r50-d8_4xb2-80k_cityscape-512x1024",
            'did you mean "pspnet_r50-d8_4xb2-80k_cityscapes-512x1024"',
        ),
        ("zzz", "There is no recipe 'zzz'\n`fastfcn recipes` lists them"),
        ("", "There is no recipe ''"),
        ("missing.toml", "Cannot read the recipe missing.toml: no such file or directory"),
    ],
)
def test_unknown_recipe(name: str, says: str):
    with pytest.raises(RecipeError, match=says):
        recipes.load(name)


def test_a_folder_and_a_file_of_bytes_are_not_recipes(tmp_path: Path):
    with pytest.raises(RecipeError, match="is a directory"):
        recipes.load(_made(tmp_path / "folder.toml"))
    (tmp_path / "image.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(RecipeError, match=r"image\.toml is not UTF-8 text"):
        recipes.load(tmp_path / "image.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("format = 1\nname = \n", "mine.toml is not TOML: line 2, column 8: "),
        ('[data]\nkind = "a"\n[data.kind]\nx = 1\n', "mine.toml is not TOML: "),
        pytest.param("x = " + "[" * 100_000, "mine.toml is not TOML: ", id="nested"),
        ("format = 1\n[data\ncrop = 3", "mine.toml is not TOML: line 2, column 6: "),
        ("seed = 1\nseed = 2\n", 'mine.toml is not TOML: line 2, column 1: Key "seed" already exists'),
    ],
)
def test_broken_toml_names_line_and_column(text: str, says: str):
    with pytest.raises(RecipeError) as caught:
        recipes.parse(text, "mine.toml")
    assert caught.value.message.startswith(says)


def _as_format_3(text: str) -> str:
    """A recipe's text with the schedule in [optim], in the order of format 3, and without the sections of format 4."""
    before, rest = text.replace("format = 4", "format = 3").split("[optim]\n")
    optim, rest = rest.split("\n\n[schedule]\n")
    sections, after = rest.split("\n\n[eval]")
    schedule = sections.split("\n\n[freeze]")[0].replace("\nend = ", "\nschedule_end = ")
    lines = {line.split(" = ")[0]: line for line in [*schedule.splitlines(), *optim.splitlines()]}
    order = ["kind", "lr", "head_lr_factor", "momentum", "weight_decay", "power", "min_lr", "schedule_end"]
    order += ["warmup_steps", "steps", "batch", "clip_norm", "ema"]
    assert lines.keys() - set(order) == {"layer_decay", "decay_norm_and_bias"}
    return f"{before}[optim]\n" + "\n".join(lines[key] for key in order) + f"\n\n[eval]{after}"


def _as_format_2(text: str) -> str:
    """A recipe's text with the names of format 2, by replacing words, and with the loss weights in [loss]."""
    weights = {"loss_weight": "0.0", "se_loss_weight": "0.0"}
    lines = []
    for line in text.replace("format = 3", "format = 2").split("\n"):
        key, _, value = line.partition(" = ")
        if key in weights:
            weights[key] = value
            continue
        key = {
            "load_from": "start", "weight_init": "init", "cat_max_ratio": "max_class_share", "codewords": "codes",
            "photometric_distortion": "distort", "style": "stride_in",
        }.get(key, key)  # fmt: skip
        value = {'"labeled"': '"labelled"', '"pytorch"': '"conv2"' if key == "stride_in" else value}.get(value, value)
        lines.append(f"{key} = {value}" if value else line)
        if key == "mean_over":
            lines += [f"auxiliary = {weights['loss_weight']}", f"presence = {weights['se_loss_weight']}"]
    return "\n".join(lines)


def _as_format_1(text: str) -> str:
    """A recipe's text without the additions of format 2, by removing lines."""
    before, *sections = text.replace("format = 2", "format = 1").split("\n[")
    added = {section: [key for name, _, key, _ in ADDED_IN_2 if name == section] for section, *_ in ADDED_IN_2}
    parts = [("", before)] + [(section.partition("]")[0], section) for section in sections]
    for index, (name, part) in enumerate(parts):
        lines = [line for line in part.split("\n") if line.split(" = ")[0] not in added.get(name, [])]
        parts[index] = (name, "\n".join(lines))
    return "\n[".join(part for _, part in parts)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_key_that_occurs_twice_is_named_with_its_line():
    text = recipes.load("demo").text.replace("flip = 0.5", "flip = 0.5\nflip = 0.5", 1)
    with pytest.raises(RecipeError, match=r"not TOML: (at )?line \d+.*flip"):
        recipes.parse(text, "recipe.toml")
