"""`check --fix` keeps the name and, except for blurred edges, the area of every class, unless a change is accepted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastfcn.checking.check import check_folder
from fastfcn.checking.consent import KINDS
from fastfcn.checking.fixing import CHANGES, FixedCopy, write_fixed_copy
from fastfcn.errors import UserError
from fastfcn.init.choices import TrainingMachine
from fastfcn.init.init import init
from tests.checking.clean import mask_path, save, stored, write_clean
from tests.checking.defects import DEFECTS
from tests.helpers.command import fastfcn

CPU = TrainingMachine("cpu", "2 CPU cores", 8.0)
# Defects whose correction may change the area or the name of a class, and the consent that it needs.
NEED_CONSENT = {
    "one_mask_of_0_and_255": "binary",
    "masks_of_colors_with_a_slip": "near-colors",
    "palette_in_another_order": "palette",
    "numbers_from_1": "renumber",
    "gaps": "renumber",
    "one_mask_off_by_one": "shift",
    "a_number_far_off": "outliers",
    "mask_of_half_the_size": "resize",
    "image_in_two_splits": "duplicates",
    "image_twice_in_a_split": "duplicates",
    "masks_of_colors": "ids",
}


def fix(root: Path, *accept: str) -> tuple[Path, FixedCopy]:
    out = root.with_name(f"copy{len(list(root.parent.iterdir()))}")
    return out, write_fixed_copy(check_folder(root, show_progress=False), out, accept, show_progress=False)


def set_of(root: Path, masks: list[np.ndarray]) -> Path:
    """Images of noise with these masks."""
    for number, mask in enumerate(masks):
        size = (*mask.shape[:2], 3)
        save(root / f"images/{number}.jpg", np.random.default_rng(number).integers(0, 255, size, np.uint8))
        save(root / f"masks/{number}.png", mask)
    return root


def class_names(root: Path) -> dict:
    """The name of each id or color, as `init` writes it."""
    description = init(root, pretrained="none", machine=CPU).description
    if description.labels_kind == "color":
        return {entry.color: entry.name for entry in description.classes}
    return {mask_id: entry.name for entry in description.classes for mask_id in entry.ids}


def disk(number: int, empty: bool = False) -> np.ndarray:
    """An anti-aliased 0/255 mask."""
    mask = Image.new("L", (800, 800))
    if not empty:
        ImageDraw.Draw(mask).ellipse((100 + 20 * number, 150, 500 + 20 * number, 600), fill=255)
    return np.array(mask.resize((200, 200), Image.Resampling.BILINEAR))


def test_anti_aliased_masks_with_one_empty_mask(tmp_path: Path):
    masks = [disk(number, empty=number == 0) for number in range(10)]
    out, copy = fix(set_of(tmp_path / "set", masks))
    assert not copy.declined
    for number, mask in enumerate(masks):
        fixed = stored(out / f"masks/{number}.png")
        assert set(np.unique(fixed)) == ({0, 1} if number else {0})
        assert np.array_equal(fixed == 1, mask >= 128)


@pytest.mark.parametrize("quality", [60, 90])
def test_jpeg_masks_with_one_empty_png_mask(tmp_path: Path, quality: int):
    root = set_of(tmp_path / "set", [disk(number, empty=number == 0) for number in range(6)])
    for number in range(1, 6):
        save(root / f"masks/{number}.jpg", stored(root / f"masks/{number}.png"), quality=quality)
        (root / f"masks/{number}.png").unlink()
    out, copy = fix(root)
    for number in range(1, 6):
        path = out / f"masks/{number}.png"
        objects = stored(path) > 0 if path.exists() else stored(out / f"masks/{number}.jpg") > 127
        assert np.count_nonzero(objects ^ (disk(number) > 127)) <= 20
    assert copy.declined.keys() <= {"deblur"}


def test_all_blurred_masks_of_classes_next_to_each_other(tmp_path: Path):
    """Ids 0 to 3, the background has most pixels: classes 1 to 3 are not noise of 0."""
    masks = []
    for number in range(6):
        big = np.zeros((240, 320), np.uint8)
        for value in (1, 2, 3):
            big[40 : 80 + 4 * number, 70 * value : 70 * value + 40] = value
        masks.append(np.array(Image.fromarray(big).resize((160, 120), Image.Resampling.BICUBIC)))
    out, _ = fix(set_of(tmp_path / "set", masks))
    for number, mask in enumerate(masks):
        fixed = stored(out / f"masks/{number}.png")
        for value in (1, 2, 3):
            assert abs(int((fixed == value).sum()) - 20 * (20 + 2 * number)) <= 2 * (40 + 2 * number) + 8, value
        assert set(np.unique(fixed)) == {0, 1, 2, 3}
        assert np.array_equal(fixed[25:35, 110:120], mask[25:35, 110:120])


def test_faint_lines_are_not_erased_without_consent(tmp_path: Path):
    """A wire so thin that none of its pixels reaches 128."""
    masks = [disk(number) for number in range(5)]
    faint = disk(1)
    faint[20:180, 190] = 60
    masks[1] = faint
    root = set_of(tmp_path / "set", masks)
    out, copy = fix(root)
    assert copy.declined == {"deblur": 1}
    assert (out / "masks/1.png").read_bytes() == (root / "masks/1.png").read_bytes()
    assert {area.file for area in copy.areas} == {"masks/1.png"}
    assert ("60", 160, 0) in {(area.class_name, area.before, area.after) for area in copy.areas}
    assert "Ids are not renumbered: 1 masks stay as they are" in copy.notes[0]
    out, copy = fix(root, "deblur")
    assert set(np.unique(stored(out / "masks/1.png"))) == {0, 1}


def test_thin_lines_are_kept(tmp_path: Path):
    """Anti-aliased cracks: no pixel of them equals its four neighbors."""
    masks = []
    for number in range(5):
        big = Image.new("L", (800, 800))
        ImageDraw.Draw(big).line((50, 100 + 40 * number, 700, 500), fill=255, width=8)
        masks.append(np.array(big.resize((200, 200), Image.Resampling.BOX)))
    masks[0] = disk(0)
    out, copy = fix(set_of(tmp_path / "set", masks))
    for number, mask in enumerate(masks):
        if not copy.declined:
            assert np.array_equal(stored(out / f"masks/{number}.png") > 0, mask >= 128)
        else:
            assert (stored(out / f"masks/{number}.png") > 0).sum() > 200


def gap_masks(values: tuple[int, ...]) -> list[np.ndarray]:
    masks = []
    for number in range(8):
        mask = np.full((64, 96), values[0], np.uint8)
        for place, value in enumerate(values[1:]):
            mask[8 : 40 + number, 10 + 20 * place : 26 + 20 * place] = value
        masks.append(mask)
    return masks


def test_gaps_that_a_list_explains_are_no_problem(tmp_path: Path):
    root = set_of(tmp_path / "set", gap_masks((0, 2, 3)))
    (root / "classes.txt").write_text("sky\ncat\ndog\ntree\n")
    assert check_folder(root, show_progress=False).problems == []
    out, copy = fix(root, "all")
    assert copy.changes == []
    assert class_names(out) == {0: "sky", 1: "cat", 2: "dog", 3: "tree"}


def test_a_gap_next_to_an_ignored_value_does_not_shift_names(tmp_path: Path):
    """Four names, four values, but 255 is none of the four classes."""
    masks = gap_masks((0, 2, 3))
    for mask in masks:
        mask[-4:] = 255
    root = set_of(tmp_path / "set", masks)
    (root / "classes.txt").write_text("sky\ncat\ndog\ntree\n")
    assert class_names(fix(root)[0]) == {0: "sky", 1: "cat", 2: "dog", 3: "tree"}


@pytest.mark.parametrize(
    ("file", "text", "values", "expected"),
    [
        ("classes.txt", "sky\ndog\ntree\n", (2, 5, 9), {0: "sky", 1: "dog", 2: "tree"}),
        ("labels.txt", "1: sky\n2: dog\n3: tree\n", (1, 2, 3), {0: "sky", 1: "dog", 2: "tree"}),
        ("labels.txt", "__ignore__\nsky\ndog\ntree\n", (1, 2, 3), {0: "sky", 1: "dog", 2: "tree"}),
        ("_classes.csv", "Pixel Value, Class\n7, dog\n2, sky\n9, tree\n", (2, 7, 9), {0: "sky", 1: "dog", 2: "tree"}),
    ],
)
def test_names_that_a_list_gives_in_order_follow_their_ids(
    tmp_path: Path, file: str, text: str, values: tuple[int, ...], expected: dict[int, str]
):
    root = set_of(tmp_path / "set", gap_masks(values))
    (root / file).write_text(text)
    before = check_folder(root, show_progress=False)
    assert list(before.names.values()) == list(expected.values())
    assert not {problem.kind for problem in before.problems} & {"ids_from_one", "id_gaps"}
    out, _ = fix(root, "renumber")
    assert list(class_names(out).values()) == list(expected.values())


def test_a_list_of_a_binary_set_follows_its_ids(tmp_path: Path):
    root = set_of(tmp_path / "set", gap_masks((0, 255)))
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, wall\n255, crack\n")
    out, _ = fix(root)
    assert set(np.unique(stored(out / "masks/0.png"))) == {0, 1}
    assert (out / "_classes.csv").read_text() == "Pixel Value, Class\n0, wall\n1, crack\n"
    assert class_names(out) == {0: "wall", 1: "crack"}


COLOR_LISTS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\ntool:250,50,83::\nwood:5,5,200::\nbackground:0,0,0::\n",
    "class_dict.csv": "name,r,g,b\ntool,250,50,83\nwood,5,5,200\nbackground,0,0,0\n",
    "label_colors.txt": "250 50 83\ttool\n5 5 200\twood\n0 0 0\tbackground\n",
}
COLORS = np.array([[0, 0, 0], [250, 50, 83], [5, 5, 200]], np.uint8)
BY_COLOR = {(0, 0, 0): "background", (5, 5, 200): "wood", (250, 50, 83): "tool"}


@pytest.mark.parametrize("file", COLOR_LISTS)
@pytest.mark.parametrize("accept", [(), ("ids",)])
def test_lists_with_colors_are_carried_over(tmp_path: Path, file: str, accept: tuple[str, ...]):
    root = set_of(tmp_path / "set", [COLORS[mask] for mask in gap_masks((0, 1, 2))])
    (root / file).write_text(COLOR_LISTS[file])
    out, copy = fix(root, *accept)
    names = class_names(out)
    colors = {color: names[number] for number, color in enumerate(sorted(BY_COLOR))} if accept else names
    assert {color: colors[color] for color in BY_COLOR} == BY_COLOR
    assert (not copy.changes) == (not accept)


def test_colors_that_a_list_does_not_know_are_not_converted(tmp_path: Path):
    root = set_of(tmp_path / "set", [COLORS[mask] for mask in gap_masks((0, 1, 2))])
    (root / "labelmap.txt").write_text("tool:250,50,83::\nbackground:0,0,0::\n")
    out, copy = fix(root, "ids")
    assert "labelmap.txt cannot be adapted" in copy.notes[0]
    assert (out / "masks/0.png").read_bytes() == (root / "masks/0.png").read_bytes()


def test_a_description_in_the_folder_keeps_its_ids(tmp_path: Path):
    root = set_of(tmp_path / "set", gap_masks((0, 255)))
    init(root, classes=["wall", "crack"], pretrained="none", machine=CPU)
    complete = (root / "dataset.toml").read_bytes()
    out, copy = fix(root, "all")
    assert copy.notes == [], "it explains all values"
    assert set(np.unique(stored(out / "masks/0.png"))) == {0, 255}
    assert (out / "dataset.toml").read_bytes() == complete
    shutil.rmtree(out)
    (root / "dataset.toml").write_bytes(complete.replace(b"255", b"7"))
    out, copy = fix(root, "all")
    assert "dataset.toml gives the values their meaning" in copy.notes[0]
    assert set(np.unique(stored(out / "masks/0.png"))) == {0, 255}


@pytest.mark.parametrize(("defect", "kind"), NEED_CONSENT.items())
def test_files_are_left_as_they_are_without_consent(tmp_path: Path, defect: str, kind: str):
    root = write_clean(tmp_path / "data")
    DEFECTS[defect](root)
    before = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    out, copy = fix(root, *(KINDS.keys() - {kind}))
    after = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    after.pop(Path(CHANGES))
    assert after == before
    if kind not in ("renumber", "ids"):  # these concern the entire dataset and are optional
        assert copy.declined.keys() == {kind}
        assert f"--accept {kind}" in (out / CHANGES).read_text()


def test_every_other_file_is_copied(tmp_path: Path):
    root = write_clean(tmp_path / "data")
    for name in ("README.md", "notes/license.txt", "annotations.json", "color/a.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"text")
    (root / ".hidden").write_bytes(b"")
    out, copy = fix(root)
    assert [(change.file, change.what) for change in copy.changes if "color" not in change.file] == [
        (".hidden", "left out: a hidden or special file")
    ]
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files - {".hidden"} == copied - {CHANGES}


def test_the_command(tmp_path: Path):
    root = write_clean(tmp_path / "data")
    DEFECTS["a_number_far_off"](root)
    done = fastfcn("check", root, "--fix", tmp_path / "out", "--workers", 1)
    assert "│ outliers │ 77 " in " ".join(done.out.split())
    assert "left as they are: 1 files. To set ids far above all others to 255 (ignored): --accept outliers" in done.out
    done = fastfcn("check", root, "--fix", tmp_path / "out2", "--accept", "outliers", "--workers", 1)
    assert "left as they are" not in done.out
    assert set(np.unique(stored(tmp_path / "out2" / mask_path("train_03")))) == {0, 1, 2, 3, 255}


def test_wrong_consent(tmp_path: Path):
    root = write_clean(tmp_path / "data")
    done = fastfcn("check", root, "--fix", tmp_path / "out", "--accept", "outlier")
    assert (done.code, 'did you mean "outliers"?' in done.err) == (2, True)
    assert not (tmp_path / "out").exists()
    done = fastfcn("check", root, "--accept", "outliers")
    assert (done.code, "--accept needs --fix" in done.err) == (2, True)
    with pytest.raises(UserError):
        fix(root, "everything")


def test_all_kinds_are_in_the_help():
    assert all(kind in fastfcn("check", "--help").out for kind in KINDS)
