"""What an import is told to do, and what it reports."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastfcn.data.annotations.export import Format, Problem
from fastfcn.data.annotations.painting import Crowd, Overlap
from fastfcn.data.description import SegmentationClass
from fastfcn.errors import DataError

Unlabeled = Literal["background", "ignore"]
SHOWN = 20  # broken entries listed


@dataclass
class ImportedClass:
    """A class, and its pixels, objects and the images that have it."""

    info: SegmentationClass
    pixels: int = 0
    objects: int = 0
    images: int = 0


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    `images`: the folder of the images, if they are not in the export; `format`: its name, "" to recognize it;
    `overlap`, `crowd`: see `Rules`; `unlabeled`: whether pixels without a shape are background or ignored; `link`:
    links to the images instead of copies; `skip_broken`: leave out images with broken annotations; `seed`: of the
    random split, if the export has none.
    """

    images: Path | None = None
    format: str = ""
    overlap: Overlap = "order"
    crowd: Crowd = "class"
    unlabeled: Unlabeled = "background"
    link: bool = False
    skip_broken: bool = False
    seed: int = 0


@dataclass
class ImportReport:
    """What was imported. `images` are per split; `problems` are the entries that were left out as broken.

    `without_area` counts shapes that have none, by kind; `empty` are shapes that cover no pixel; `overlapping` pixels
    had several classes, in `images_with_overlap` images; `unlabeled_images` were left out, because no pixel of theirs
    has a class; `images_without_shapes` are nothing but background.
    """

    root: Path
    out: Path
    format: Format
    options: ImportOptions
    objects: bool = True
    classes: list[ImportedClass] = field(default_factory=list)
    ignored_pixels: int = 0
    images: dict[str, int] = field(default_factory=dict)
    drawn: bool = False
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    without_area: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    overlapping: int = 0
    images_with_overlap: int = 0
    unlabeled_images: int = 0
    images_without_shapes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The report as an object for JSON."""
        rules = {key: getattr(self.options, key) for key in ("overlap", "crowd", "unlabeled")}
        counts = ("ignored_pixels", "empty", "overlapping", "images_with_overlap", "unlabeled_images",
                  "images_without_shapes")  # fmt: skip
        return {
            "format": self.format.name,
            **rules,
            "images": self.images,
            "classes": [
                {
                    "name": entry.info.name, "id": entry.info.ids[0], "color": list(entry.info.color),
                    "pixels": entry.pixels, "images": entry.images,
                    **({"objects": entry.objects} if self.objects else {}),
                }
                for entry in self.classes
            ],
            **{key: getattr(self, key) for key in counts},
            "without_area": dict(self.without_area),
            "broken": [problem._asdict() for problem in self.problems],
            "notes": self.notes,
        }  # fmt: skip


def refuse_broken(report: ImportReport) -> None:
    """Raise DataError, with the first problems, if there are any and they must not be skipped."""
    if report.problems and not report.options.skip_broken:
        lines = [str(problem) for problem in report.problems]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        listed = "\n".join(f"  {line}" for line in [*lines[:SHOWN], *more])
        raise DataError(
            f"{report.root} has broken annotations; nothing was written.\n{listed}",
            "Fix them, or leave out these images with --skip-broken.",
        )


def rules_text(options: ImportOptions) -> str:
    """The rules of an import in one sentence."""
    overlap = "later shapes over earlier ones" if options.overlap == "order" else "small shapes over large ones"
    crowd = ", crowds ignored" if options.crowd == "ignore" else ""
    pixels = "background" if options.unlabeled == "background" else "ignored"
    return f"Painted {overlap}{crowd}; pixels without a shape are {pixels}."
