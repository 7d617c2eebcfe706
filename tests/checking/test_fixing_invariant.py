"""Random datasets with random defects: in the corrected copy, every class keeps its name and its area.

The test reads the files itself, with its own rules for names and edges. From the package it uses only `check_folder`
and `write_fixed_copy`, and `init` for the names in the copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.check import check_folder
from fastfcn.checking.fixing import CHANGES, write_fixed_copy
from fastfcn.errors import DataError
from fastfcn.init.choices import TrainingMachine
from fastfcn.init.init import init

CPU = TrainingMachine("cpu", "2 CPU cores", 8.0)
CASES = 40
NAMES = ("sky", "road", "cat", "dog", "tree", "traffic light", "wall", "crack")


@dataclass
class RandomSet:
    """A random dataset: `masks` by file as stored, `names` by value if a list has them."""

    root: Path
    random: np.random.Generator
    values: list[int] = field(default_factory=list)
    colors: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    kind: str = "gray"
    blurred: set[str] = field(default_factory=set)  # files of masks that are blurred or look blurred


def draw(root: Path, seed: int) -> RandomSet:
    drawn = RandomSet(root, random := np.random.default_rng(seed))
    count = int(random.integers(2, 6))
    spread: list[Callable[[], list[int]]] = [
        lambda: list(range(count)),
        lambda: list(range(1, count + 1)),
        lambda: sorted(random.choice(30, count, replace=False).tolist()),
        lambda: [0, 255],
        lambda: [0, 128, 255],
    ]
    drawn.values = spread[int(random.integers(len(spread)))]()
    drawn.kind = str(random.choice(["gray", "gray", "palette", "rgb"]))
    free = random.permutation(len(NAMES))
    drawn.colors = {value: tuple((np.array([37, 91, 151]) * (number + 1) % 256).tolist()) if value else (0, 0, 0)
                    for number, value in enumerate(drawn.values)}  # fmt: skip
    for number in range(8):
        write_pair(drawn, number)
    if random.random() < 0.6:
        write_list(drawn, [NAMES[index] for index in free])
    for name in ("README.txt", "extra/info.json"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("{}")
    return drawn


def write_pair(drawn: RandomSet, number: int) -> None:
    random, size = drawn.random, (48, 64)
    for folder in ("images", "masks"):
        (drawn.root / folder).mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(drawn.root / f"images/{number}.jpg")
    mask = np.full(size, drawn.values[0], np.uint8)
    if number or random.random() < 0.5:  # else empty
        for value in drawn.values[1:]:
            top, left = random.integers(0, 30), random.integers(0, 44)
            mask[top : top + random.integers(6, 18), left : left + random.integers(6, 20)] = value
    if number == 1 and random.random() < 0.3:
        mask[5:9, 5:9] = random.integers(60, 250)  # an outlier
    damage = random.choice(["none", "none", "none", "blur", "jpeg", "half", "16 bit"])
    save_mask(drawn, number, mask, str(damage))


def save_mask(drawn: RandomSet, number: int, mask: np.ndarray, damage: str) -> None:
    path = drawn.root / f"masks/{number}.png"
    if damage == "half":
        mask = np.ascontiguousarray(mask[::2, ::2])
    if drawn.kind == "rgb":
        table = np.full((256, 3), 255, np.uint8)
        table[drawn.values] = [drawn.colors[value] for value in drawn.values]
        mask = table[mask]
    image = Image.fromarray(mask)
    if damage == "blur":
        large = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BILINEAR)
        image = large.resize(image.size, Image.Resampling.BILINEAR)
    elif damage == "jpeg":
        path = path.with_suffix(".jpg")
    elif damage == "16 bit" and drawn.kind != "rgb":
        image = Image.fromarray(mask.astype(np.uint16))
    if drawn.kind == "palette" and image.mode == "L" and damage != "jpeg":
        palette = np.zeros((256, 3), np.uint8)
        palette[drawn.values] = [drawn.colors[value] for value in drawn.values]
        image.putpalette(palette.ravel().tolist())
    image.save(path, **({"quality": 90} if damage == "jpeg" else {}))


def write_list(drawn: RandomSet, names: list[str]) -> None:
    """One of the formats that fits the values; including classes that no mask contains."""
    random, values = drawn.random, drawn.values
    if drawn.kind == "rgb":
        drawn.names = dict(zip(values, names, strict=False))
        lines = [f"{name}:{','.join(map(str, drawn.colors[value]))}::" for value, name in drawn.names.items()]
        random.shuffle(lines)
        (drawn.root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
    elif random.random() < 0.3:
        drawn.names = dict(zip(values, names, strict=False))
        lines = [f"{value}, {name}" for value, name in drawn.names.items()]
        random.shuffle(lines)
        (drawn.root / "_classes.csv").write_text("Pixel Value, Class\n" + "\n".join(lines) + "\n")
    elif max(values) < len(names) and random.random() < 0.5:
        drawn.names = {value: names[value] for value in values}
        (drawn.root / "classes.txt").write_text("\n".join(names) + "\n")
    else:
        drawn.names = dict(zip(values, names, strict=False))
        (drawn.root / "labels.txt").write_text("\n".join(names[: len(values)]) + "\n")


def pixels_of(path: Path, color: bool) -> np.ndarray:
    with Image.open(path) as image:
        if color:
            return np.array(image.convert("RGB")).astype(np.int64) @ [65536, 256, 1]
        return np.array(image).astype(np.int64).reshape(image.height, image.width, -1)[..., 0]


def edge(mask: np.ndarray, value: int) -> int:
    """Pixels that differ from a neighbor, at most two pixels from `value`."""
    rows, columns = mask.shape
    padded = np.pad(mask, 2, mode="edge")
    near = {(y, x): padded[2 + y : 2 + y + rows, 2 + x : 2 + x + columns] for y in range(-2, 3) for x in range(-2, 3)}
    uneven = np.any([mask != near[shift] for shift in ((0, 1), (1, 0), (0, -1), (-1, 0))], axis=0)
    return int((uneven & np.any([other == value for other in near.values()], axis=0)).sum())


@pytest.mark.parametrize("seed", range(CASES))
def test_names_and_areas_survive(tmp_path: Path, seed: int):
    drawn = draw(tmp_path / "set", seed)
    report = check_folder(drawn.root, show_progress=False)
    drawn.blurred = {file for problem in report.problems if problem.kind in ("mask_blurred", "mask_lossy")
                     for file in problem.files}  # fmt: skip
    out = tmp_path / "copy"
    before = {path.relative_to(drawn.root): path.read_bytes() for path in drawn.root.rglob("*") if path.is_file()}
    copy = write_fixed_copy(report, out, show_progress=False)
    assert before == {path.relative_to(drawn.root): path.read_bytes()
                      for path in drawn.root.rglob("*") if path.is_file()}  # fmt: skip
    listed = (out / CHANGES).read_text(encoding="utf-8")
    for path in before:
        present = (out / path).exists() or (out / path).with_suffix(".png").exists()
        assert present or f"{path.as_posix()}\tleft out: " in listed, path
    for number in range(8):
        source = next(iter(drawn.root.glob(f"masks/{number}.*")))
        target = next(iter(sorted(out.glob(f"masks/{number}.*"))), None)
        if target is not None and target.read_bytes() != source.read_bytes():
            check_areas(drawn, source, target, copy.renamed)
    check_names(drawn, out, copy.renamed)


def check_areas(drawn: RandomSet, source: Path, target: Path, renamed: dict) -> None:
    old, new = pixels_of(source, drawn.kind == "rgb"), pixels_of(target, drawn.kind == "rgb")
    assert old.shape == new.shape, "a resized mask needs consent"
    blurred, jpeg = f"masks/{source.name}" in drawn.blurred, source.suffix == ".jpg"
    spacing = int(np.diff(drawn.values).min()) if drawn.kind != "rgb" else 0
    noise = min(24, (spacing - 1) // 2) if jpeg and spacing > 2 else 0  # JPEG changes every pixel by a little
    for value in drawn.values:
        stored = value
        if drawn.kind == "rgb":
            red, green, blue = drawn.colors[value]
            stored = red << 16 | green << 8 | blue
        area = int((new == renamed.get(stored, stored)).sum())
        if jpeg and drawn.kind == "rgb":
            continue  # colors vary in three channels
        old[np.abs(old - stored) <= noise] = stored
        exact = int((old == stored).sum())
        allowed = edge(old, stored) if blurred else 0
        assert abs(area - exact) <= allowed, (source.name, value, exact, area)


def check_names(drawn: RandomSet, out: Path, renamed: dict) -> None:
    if not drawn.names:
        return
    try:
        original = init(drawn.root, tmp_out(drawn.root, "a"), pretrained="none", machine=CPU).description
        copied = init(out, tmp_out(out, "b"), pretrained="none", machine=CPU).description
    except DataError:
        return  # too few values or pairs, before and after
    if drawn.kind == "rgb":
        assert {(class_.name, class_.color) for class_ in original.classes} == {(class_.name, class_.color)
                                                                          for class_ in copied.classes}  # fmt: skip
        assert set(drawn.names.values()) <= {class_.name for class_ in copied.classes}
        return
    names = {mask_id: class_.name for class_ in copied.classes for mask_id in class_.ids}
    original_names = {mask_id: class_.name for class_ in original.classes for mask_id in class_.ids}
    if set(drawn.names.values()) <= set(original_names.values()):
        for value, name in drawn.names.items():
            assert names[renamed.get(value, value)] == name, (value, name, names, renamed)


def tmp_out(root: Path, name: str) -> Path:
    return root.with_name(f"{root.name}_{name}")
