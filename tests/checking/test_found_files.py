"""Split lists, label files and unusual files in many forms: found by `check`, used by `init`."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.check import check_folder
from fastfcn.data.class_lists import read_class_list
from fastfcn.data.description import load_description, parse_description
from fastfcn.data.layout import find_examples
from fastfcn.errors import DataError
from fastfcn.init.init import init
from tests.helpers.command import fastfcn

NAMES = "abcdefgh"
FORMS = {
    "names": "{0}",
    "file names": "{0}.jpg",
    "paths": "images/{0}.jpg",
    "dotted": "./images/{0}.jpg",
    "spaces": "images/{0}.jpg masks/{0}.png",
    "tabs": "images/{0}.jpg\tmasks/{0}.png",
    "commas": "images/{0}.jpg,masks/{0}.png",
    "names with folders": "images/{0}",
}
ENCODINGS = {"utf-8": "\n", "utf-8-sig": "\r\n", "utf-16": "\r\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "own" / folder).mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / "own/images" / f"{name}.jpg")
        mask = np.repeat(np.arange(3, dtype=np.uint8), 8)[None].repeat(24, 0)
        Image.fromarray(mask).save(tmp_path / "own/masks" / f"{name}.png")
    return tmp_path / "own"


def write_lists(root: Path, form: str, encoding: str = "utf-8", name: str = "{}.txt") -> None:
    for split, names in (("train", NAMES[:6]), ("val", NAMES[6:])):
        text = "".join(form.format(name) + ENCODINGS[encoding] for name in names)
        (root / name.format(split)).write_bytes(text.encode(encoding))


def kinds(root: Path) -> dict[str, str]:
    return {problem.kind: problem.message for problem in check_folder(root, show_progress=False).problems}


@pytest.mark.parametrize("form", FORMS)
def test_split_lists_of_every_form_are_used(root: Path, form: str):
    write_lists(root, FORMS[form], name="{}_list.txt" if form == "paths" else "{}.txt")
    result = init(root, pretrained="none")
    assert (result.train, result.val) == (6, 2)
    examples = find_examples(load_description(root / "dataset.toml"), root, "val")
    assert [example.image_path.stem for example in examples] == ["g", "h"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_split_lists_of_every_encoding_are_used(root: Path, encoding: str):
    write_lists(root, "{0}", encoding)
    report = check_folder(root, show_progress=False)
    assert report.pairs_by_split == {"train": 6, "val": 2}
    assert not report.problems


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"x\ny\n", "0 of its 2"), (b"\xff\xfea", "UTF-16")])
def test_lists_that_cannot_be_used_are_named(root: Path, content: bytes, reason: str):
    (root / "train.txt").write_bytes(content)
    message = kinds(root)["lists_not_used"]
    assert "train.txt" in message
    assert reason in message


def test_files_that_are_not_files_are_skipped(root: Path):
    os.mkfifo(root / "images/pipe.jpg")
    (root / "self").symlink_to("self")
    (root / "images/up").symlink_to("..")
    (root / "masks/zero.png").symlink_to("/dev/zero")
    report = check_folder(root, show_progress=False)
    assert report.pairs == 8
    message = next(problem.message for problem in report.problems if problem.kind == "not_read")
    for name in ("images/pipe.jpg", "self", "masks/zero.png"):
        assert name in message


def test_formats_that_cannot_be_read_are_counted(root: Path):
    for name in ("x.heic", "y.heic", "z.NEF"):
        (root / "images" / name).touch()
    assert kinds(root)["not_read"] == "Skipped: 2 .heic (not supported), 1 .nef (not supported)."


def test_control_characters_in_class_names(root: Path):
    """TOML forbids them in comments, where init names classes."""
    (root / "classes.txt").write_text("sky\x1b[31m\nroad\x07\ntree\x7f\n")
    result = init(root, pretrained="none")
    assert list(result.description.class_names) == ["sky\x1b[31m", "road\x07", "tree\x7f"]
    assert "\x1b" not in (root / "recipe.toml").read_text() + (root / "dataset.toml").read_text()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_class_names_in_every_encoding(tmp_path: Path, encoding: str):
    text = ENCODINGS[encoding].join(["background", "3 wheeler", "grade 1 2 3", ""])
    (tmp_path / "classes.txt").write_bytes(text.encode(encoding))
    names = [entry.name for entry in read_class_list(tmp_path / "classes.txt").classes]
    assert names == ["background", "3 wheeler", "grade 1 2 3"]


@pytest.mark.parametrize("file", ["classes.txt", "_classes.csv", "labelmap.txt"])
def test_class_names_in_an_older_encoding_are_read_and_said_once(root: Path, file: str):
    lines = {
        "classes.txt": "fond\nhaie… élevée\nStraße\n",
        "_classes.csv": "Pixel Value, Class\n0, fond\n1, haie… élevée\n2, Straße\n",
        "labelmap.txt": "fond:0,0,0::\nhaie… élevée:1,1,1::\nStraße:2,2,2::\n",
    }
    (root / file).write_bytes(lines[file].encode("cp1252"))
    result = init(root, pretrained="none")
    assert list(result.description.class_names) == ["fond", "haie… élevée", "Straße"]
    message = kinds(root)["class_list_unclear"]
    assert message.count(file) == 1
    assert "Windows-1252" in message
    assert [problem.kind for problem in result.notes] == ["class_list_unclear"]


def test_a_class_list_that_is_no_text_is_named(root: Path):
    (root / "classes.txt").write_bytes("fond\nhaie\nmur\n".encode("utf-16-le"))
    assert "classes.txt is not a text file" in kinds(root)["class_list_unclear"]


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [("stra\udcdfe", "straße"), ("cafe\u0301", "caf\u00e9"), ("caf\u00e9", "cafe\u0301"), ("straße", "straße")],
)
def test_lists_may_spell_names_in_other_ways(root: Path, written: str, on_disk: str):
    """Lists in Latin-1 with files in UTF-8, and accents as one letter or as two, as macOS writes them."""
    for path in (root / "images/g.jpg", root / "masks/g.png"):
        path.rename(path.with_stem(on_disk))
    (root / "train.txt").write_text("a\nb\nc\nd\ne\nf\n")
    (root / "val.txt").write_bytes(f"{written}.jpg\nh\n".encode("utf-8", "surrogateescape"))
    report = check_folder(root, show_progress=False)
    assert not report.problems
    assert report.pairs_by_split == {"train": 6, "val": 2}
    init(root, pretrained="none")
    examples = find_examples(load_description(root / "dataset.toml"), root, "val")
    assert sorted(example.image_path.stem for example in examples) == sorted([on_disk, "h"])


@pytest.mark.parametrize("form", ["images/{}.jpg masks/{}.png", "{}.jpg,{}.png", '"C:\\{}.jpg"\t"masks\\{}.png"'])
def test_lists_with_the_mask_of_another_name_are_an_error(root: Path, form: str):
    """Masks are found by their names; a list that pairs other files must not be ignored."""
    for split, names in (("train", "abcdef"), ("val", "gh")):
        lines = [form.format(name, "fabcdehg"["abcdefgh".index(name)]) for name in names]
        (root / f"{split}.txt").write_text("\n".join(lines))
    assert form.format("a", "f") in kinds(root)["listed_with_other_mask"]
    result = init(root, pretrained="none")
    assert "listed_with_other_mask" in [problem.kind for problem in result.errors]
    with pytest.raises(DataError, match=r"by its name the mask of .*a\.jpg is .*a\.png"):
        find_examples(load_description(root / "dataset.toml"), root, "train")


def in_cities(root: Path) -> None:
    """The same names in two folders of images and of masks."""
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        for index, name in enumerate(NAMES):
            city = root / folder / f"city{index % 2}"
            city.mkdir(exist_ok=True)
            (root / folder / f"{name}.{suffix}").rename(city / f"{'abcd'[index // 2]}.{suffix}")


def test_init_reads_the_lists_that_it_wrote_for_nested_folders(root: Path):
    in_cities(root)
    first = init(root, pretrained="none")
    again = init(root, pretrained="none", force=True)
    assert (again.train, again.val) == (first.train, first.val)
    description = load_description(root / "dataset.toml")
    assert len(find_examples(description, root, "train+val")) == 8


@pytest.mark.parametrize("nested", [False, True])
def test_a_mask_that_may_belong_to_another_image_is_not_renamed(root: Path, tmp_path: Path, nested: bool):
    """Two masks of the spelling of one image, or a mask in the folder of another city."""
    if nested:
        in_cities(root)
        (root / "masks/city0/a.png").rename(root / "masks/city1/A.png")
    else:
        (root / "masks/a.png").rename(root / "masks/A.png")
        (root / "masks/b.png").rename(root / "masks/A_.png")
    before = {path.name: path.read_bytes() for path in (root / "masks").rglob("*.png")}
    assert "names_differ" not in kinds(root)
    assert fastfcn("check", root, "--fix", tmp_path / "out").code == 1
    assert "left out: it has no image" in (tmp_path / "out/CHANGES.txt").read_text()
    assert all(path.read_bytes() == before[path.name] for path in (tmp_path / "out/masks").rglob("*.png"))


def test_init_says_what_it_does_not_use(root: Path):
    (root / "train.txt").write_text("x\ny\n")
    (root / "self").symlink_to("self")
    done = fastfcn("init", root, "--pretrained", "none")
    assert done.code == 0
    assert done.out.count("Note: Skipped: self (too many levels") == 1
    assert done.out.count("Note: Split lists that are not used: train.txt (0 of its 2") == 1


@pytest.mark.parametrize("folder", ["lost+found", "masks/locked"])
def test_folders_that_cannot_be_read_are_skipped_and_said(root: Path, folder: str, monkeypatch: pytest.MonkeyPatch):
    """Root may read every folder, so reading is refused here."""
    locked, scandir, listdir = root / folder, os.scandir, os.listdir
    locked.mkdir()

    def refuse(read: Callable) -> Callable:
        def guarded(path: os.PathLike = Path()) -> object:
            if Path(path).name == locked.name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return read(path)

        return guarded

    monkeypatch.setattr(os, "scandir", refuse(scandir))
    monkeypatch.setattr(os, "listdir", refuse(listdir))
    report = check_folder(root, show_progress=False)
    assert report.pairs == 8
    assert f"{folder} (permission denied)" in kinds(root)["not_read"]
    assert [problem.kind for problem in init(root, pretrained="none").notes] == ["not_read"]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.txt", "0 road\n1 side walk\n", [("road", None), ("side walk", None)]),
        ("classes.txt", "0: road\n1: wall\n", [("road", None), ("wall", None)]),
        ("classes.txt", "0,road\n1, wall\n", [("road", None), ("wall", None)]),
        ("classes.txt", "# ids\n1;road\n2;wall\n", [("road", None), ("wall", None)]),
        ("classes.txt", "0\troad\n1\twall\n", [("road", None), ("wall", None)]),
        ("classes.txt", "2 lanes\n4 lanes\n", [("2 lanes", None), ("4 lanes", None)]),
        ("classes.txt", "7: road\n9: wall\n", [("road", None), ("wall", None)]),
        ("classes.txt", "road 1 2 3\nwall 4 5 6\n", [("road", (1, 2, 3)), ("wall", (4, 5, 6))]),
        ("class_dict.csv", 'name,r,g,b\n"Car, parked",64,0,128\n"Sign ""Stop""",1,2,3\n',
         [("Car, parked", (64, 0, 128)), ('Sign "Stop"', (1, 2, 3))]),
        ("class_dict.csv", "name;r;g;b\nRoad;0;0;0\n", [("Road", (0, 0, 0))]),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, leaf\n", [("background", None), ("leaf", None)]),
    ],
)  # fmt: skip
def test_names_in_label_files(tmp_path: Path, file: str, text: str, expected: list):
    (tmp_path / file).write_text(text)
    assert list(read_class_list(tmp_path / file).classes) == expected


@pytest.mark.parametrize("form", ["{}: {}", "{},{}", "{}\t{}", "{} ; {}"])
def test_ids_in_label_files_that_are_not_a_count_are_ids(root: Path, form: str):
    """The masks have 0, 1 and 2; the name of 1 is missing."""
    (root / "classes.txt").write_text("".join(form.format(*entry) + "\n" for entry in ((0, "sky"), (2, "road"))))
    classes = init(root, pretrained="none").description.classes
    assert [(entry.ids, entry.name) for entry in classes] == [((0,), "sky"), ((1,), "class_1"), ((2,), "road")]


@pytest.mark.parametrize("text", ['["sky", "road", "tree"]', "sky\n"])
def test_class_lists_that_do_not_fit_are_named(root: Path, text: str):
    (root / "classes.txt").write_text(text)
    assert "classes.txt names 1 classes, which fit none of the values" in kinds(root)["class_list_unclear"]
    assert [problem.kind for problem in init(root, pretrained="none").notes] == ["class_list_unclear"]


def test_too_many_classes_are_refused_by_name(root: Path):
    (root / "classes.txt").write_text("\n".join(f"class {number}" for number in range(300)))
    with pytest.raises(DataError, match=r"classes\.txt names 300 classes; there can be 254 at most"):
        init(root, pretrained="none")


def test_images_that_no_list_names_are_counted(root: Path):
    (root / "train.txt").write_text("a\nb\nc\nd\ne\n")
    result = init(root, pretrained="none")
    assert result.train + result.val == 5
    assert "3 images are in no split list, {split}.txt: they are not used." in result.split_reasons


def test_file_names_that_are_not_utf_8(root: Path):
    for folder, suffix in (("images", ".jpg"), ("masks", ".png")):
        path = os.fsencode(root / folder)
        os.rename(path + b"/a" + suffix.encode(), path + b"/stra\xdfe" + suffix.encode())  # noqa: PTH104
    init(root, pretrained="none")
    description = load_description(root / "dataset.toml")
    examples = find_examples(description, root, "train+val")
    assert len(examples) == 8
    assert any("stra\udcdfe" in example.name for example in examples)


@pytest.mark.parametrize("labels", ["{name!x}", "{name:d}", "{name:>50000000}", "{name}{0}", "{name.x}", "{name[0]}"])
def test_patterns_are_validated_when_the_description_is_read(root: Path, labels: str):
    init(root, pretrained="none")
    text = (root / "dataset.toml").read_text()
    with pytest.raises(DataError, match=r"has mistakes|placeholder"):
        parse_description(text.replace("masks/{name}", f"masks/{labels}"), "dataset.toml")


def test_splits_outside_of_the_data_folder_and_deep_nesting(root: Path):
    init(root, pretrained="none")
    lines = (root / "dataset.toml").read_text().splitlines()
    outside = ['splits = { train = "../../x", val = "val" }' if line.startswith("splits") else line for line in lines]
    with pytest.raises(DataError, match="not a path"):
        parse_description("\n".join(outside), "dataset.toml")
    with pytest.raises(DataError, match="nested"):
        parse_description("a=" + "[" * 3000, "dataset.toml")


def test_a_description_that_names_255_explains_binary_masks(root: Path):
    for path in (root / "masks").glob("*.png"):
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    assert "binary_255" in kinds(root)
    init(root, pretrained="none")
    assert "binary_255" not in kinds(root)
    described = (root / "dataset.toml").read_text()
    assert "255" in described
    (root / "dataset.toml").write_text(described.replace("255", "7"))
    assert "binary_255" in kinds(root), "a description of other ids explains nothing"
