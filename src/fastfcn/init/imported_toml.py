"""The text of the dataset.toml of an import."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastfcn.checking.folder_names import braced
from fastfcn.data.description import IgnoredValue
from fastfcn.init.import_report import ImportedClass
from fastfcn.init.toml_files import comment, entry_text
from fastfcn.recipes.validation import toml_text
from fastfcn.utils.sizes import IGNORE_INDEX

HEADER = """\
# Dataset description written by `fastfcn import`. You can change names and colors, and merge or drop classes:
#   merge = { vehicle = ["car", "truck"] }
#   drop = ["unclear"]
"""
IGNORED_VALUE = IgnoredValue(name="ignored", ids=(IGNORE_INDEX,))


def imported_toml(
    out: Path, title: str, classes: Sequence[ImportedClass], suffixes: Sequence[str], images: Mapping[str, int],
    reasons: Sequence[str], lists: str, rules: str,
) -> str:  # fmt: skip
    """The TOML text: `suffixes` of the images, `images` per split, and `lists`, the pattern of split lists, or ""."""
    folder = "" if lists else "{split}/"
    lines = [
        "format = 1",
        f"name = {toml_text(out.resolve().name or 'imported')}",
        f"title = {toml_text(f'{out.resolve().name}, imported from {title}')}",
        'home = ""',
        'labels_kind = "index"',
        'folders = ["."]',
        f"images = {toml_text([f'images/{folder}{{name}}{braced(suffix)}' for suffix in suffixes])}",
        f"labels = {toml_text([f'masks/{folder}{{name}}.png'])}",
        *(line for reason in reasons for line in comment(reason)),
        f"lists = {toml_text([lists] if lists else [])}",
        f"splits = {toml_text({split: split for split in images})}",
        *comment(rules),
        f"ignored = [{entry_text(IGNORED_VALUE)}]",
        "classes = [",
        *_classes(classes),
        "]",
    ]
    return HEADER + "\n".join([*lines, ""])


def _classes(classes: Sequence[ImportedClass]) -> Iterator[str]:
    total = max(sum(entry.pixels for entry in classes), 1)
    for entry in classes:
        share = f"{entry.pixels / total:.2%} of the pixels, in {entry.images} images" if entry.pixels else "in no mask"
        yield f"  {entry_text(entry.info)},  # {share}"
