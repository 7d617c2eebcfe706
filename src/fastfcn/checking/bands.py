"""Images of bands in `check`: inspecting one, and statistics of all in one pass."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fastfcn.checking.images import ImageInfo, explain_failure, failure_flag, fingerprint, gradients, scaled_gray
from fastfcn.checking.layouts import DatasetFiles
from fastfcn.checking.problem import Flag
from fastfcn.data.bands import HUGE, missing_pixels, needs_bands, read_header, read_stored
from fastfcn.data.decoding import DECODE_ERRORS, explain
from fastfcn.data.description import Bands
from fastfcn.errors import DataError

KINDS = 255  # of files: number, type and names of their bands


@dataclass(frozen=True)
class BandSettings:
    """What the user said about the bands: `names` in the order of the files, and the value of missing pixels."""

    names: tuple[str, ...] = ()
    nodata: float | None = None


class Kind(NamedTuple):
    """What distinguishes files: number, type and names ("" without) of their bands."""

    bands: int
    dtype: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        named = f" ({', '.join(self.names)})" if any(self.names) else ""
        return f"{self.bands} band{'s' if self.bands > 1 else ''} of {self.dtype}{named}"

    def fits(self, usual: "Kind") -> bool:
        """Whether files of this kind can be read as `usual` ones: the same names are not in another order."""
        moved = set(self.names) == set(usual.names) and self.names != usual.names
        return (self.bands, self.dtype) == (usual.bands, usual.dtype) and not moved


class Sums(NamedTuple):
    """Of each band, float64 (bands,): number of valid pixels, their mean, squared deviations from it, extremes.

    `pixels`: of the images, and those that are 0 in all bands.
    """

    valid: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pixels: int
    zeros: int

    def merged(self, other: "Sums") -> "Sums":
        """Of the pixels of both; Chan et al., 1979, equation 2.1 for sums of squares."""
        valid = self.valid + other.valid
        share = np.divide(other.valid, valid, out=np.zeros_like(valid), where=valid > 0)
        delta = other.mean - self.mean
        return Sums(
            valid, self.mean + delta * share, self.squares + other.squares + delta**2 * self.valid * share,
            np.minimum(self.low, other.low), np.maximum(self.high, other.high),
            self.pixels + other.pixels, self.zeros + other.zeros,
        )  # fmt: skip


class InspectedBands(NamedTuple):
    """What inspecting an image of bands found."""

    kind: Kind
    nodata: float | None
    sums: Sums


@dataclass(frozen=True)
class BandCounts:
    """A band over all images; statistics without missing pixels, whose share is `missing`."""

    name: str
    low: float
    high: float
    mean: float
    std: float
    missing: float


@dataclass
class BandStatistics:
    """Collects the bands of all images: one entry of `kinds` for each form of files, and which pairs have it."""

    settings: BandSettings
    kinds: dict[Kind, Sums] = field(default_factory=dict)
    nodata: dict[float, int] = field(default_factory=dict)
    kind_of: dict[int, int] = field(default_factory=dict)  # pair -> kind
    with_missing: int = 0  # images

    def add(self, pair: int, found: InspectedBands) -> None:
        if found.kind not in self.kinds and len(self.kinds) >= KINDS:
            return
        before = self.kinds.get(found.kind)
        self.kinds[found.kind] = before.merged(found.sums) if before else found.sums
        self.kind_of[pair] = list(self.kinds).index(found.kind)
        self.with_missing += bool((found.sums.valid < found.sums.pixels).any())
        if found.nodata is not None:
            self.nodata[found.nodata] = self.nodata.get(found.nodata, 0) + 1

    @property
    def usual(self) -> Kind:
        """The form of most files."""
        ((number, _),) = Counter(self.kind_of.values()).most_common(1)
        return list(self.kinds)[number]

    @property
    def sums(self) -> Sums:
        """Over all files that fit the usual form."""
        usual = self.usual
        return reduce(Sums.merged, (sums for kind, sums in self.kinds.items() if kind.fits(usual)))

    @property
    def description(self) -> Bands:
        """The entry `bands` of a dataset description. Raises DataError if the names do not fit the files."""
        kind, names = self.usual, self.settings.names
        if names and len(names) != kind.bands:
            raise DataError(
                f"{len(names)} bands are named ({', '.join(names)}), but the images have {kind.bands}.",
                "Name all bands of the files, in their order.",
            )
        own = tuple(name or f"band_{number}" for number, name in enumerate(kind.names, start=1))
        unique = own if len(set(own)) == len(own) else tuple(f"band_{number + 1}" for number in range(kind.bands))
        nodata = self.settings.nodata
        if nodata is None and self.nodata:
            nodata = max(self.nodata, key=lambda value: self.nodata[value])
        return Bands(names=names or unique, dtype=kind.dtype, nodata=nodata)  # type: ignore[arg-type]

    @property
    def counts(self) -> list[BandCounts]:
        """Statistics of each band."""
        sums = self.sums
        std = np.sqrt(sums.squares / np.maximum(sums.valid, 1))
        columns = (sums.low, sums.high, sums.mean, std, 1 - sums.valid / max(sums.pixels, 1))
        rows = np.stack(columns, 1).tolist()
        return [BandCounts(name, *row) for name, row in zip(self.description.names, rows, strict=True)]

    def as_json(self) -> dict[str, Any]:
        described = self.description.model_dump(mode="json")
        return described | {"statistics": [vars(entry) for entry in self.counts]}


def band_settings(
    root: Path, dataset: DatasetFiles, settings: BandSettings, described: Bands | None
) -> BandSettings | None:
    """How to read the images of a folder: as bands, or, if it returns None, as RGB.

    They are bands if the user or the folder's dataset.toml says so, or if most of three images cannot be RGB.
    """
    if described is not None and not settings.names:
        nodata = described.nodata if settings.nodata is None else settings.nodata
        return BandSettings(described.names, nodata)
    if settings.names or settings.nodata is not None:
        return settings
    pairs = sorted({0, len(dataset) // 2, len(dataset) - 1})
    forms = [needs_bands(root / dataset.contents.files.path(dataset.images[pair])) for pair in pairs]
    return settings if 2 * sum(forms) > len(forms) else None


def inspect_bands(path: Path, nodata: float | None) -> tuple[ImageInfo, InspectedBands | None]:
    """Read the image at `path`; never raises for a broken file. `nodata`: as in `BandSettings`."""
    digest = 0
    try:
        digest = int.from_bytes(_digest(path), "little")
        pixels, file = read_stored(path)
        sums = _sums(pixels, missing_pixels(pixels, nodata, file.nodata))
    except DECODE_ERRORS as error:
        failure = explain_failure(_head(path), error)
        flag = failure_flag(failure, Flag.IMAGE_TRUNCATED, Flag.IMAGE_UNREADABLE)
        if isinstance(error, Image.DecompressionBombError) or "more pixels than the limit" in failure:
            flag = Flag.IMAGE_TOO_LARGE
        return ImageInfo(flag, digest=digest, failure=failure), None
    gray = scaled_gray(_mean(pixels))
    low, high = gray.getextrema()
    flags = Flag.IMAGE_BLANK if low == high else Flag(0)
    info = ImageInfo(flags, file.size, file.size, digest, fingerprint(gray), gradients(gray))
    return info, InspectedBands(Kind(file.bands, file.dtype, file.names), file.nodata, sums)


def bands_size(path: Path) -> tuple[int, int]:
    """(height, width) of the image at `path`. Raises DataError."""
    try:
        return read_header(path).size
    except DECODE_ERRORS as error:
        raise DataError(f"{path} cannot be read: {explain(error)}.") from error


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest()


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError:
        return b"-"


def _mean(pixels: np.ndarray) -> np.ndarray:
    """The mean of all bands, (H, W) float32; 0 for missing values."""
    total = np.zeros(pixels.shape[:2], np.float32)
    for band in range(pixels.shape[2]):
        values = pixels[..., band].astype(np.float32)
        total += np.where(np.abs(values) < HUGE, values, 0)
    return total / pixels.shape[2]


def _sums(pixels: np.ndarray, missing: np.ndarray) -> Sums:
    """Sums of one image (H, W, bands), band by band to save memory."""
    rows = []
    for band in range(pixels.shape[2]):
        values = pixels[..., band][~missing[..., band]].astype(np.float64)
        mean = values.mean() if values.size else 0.0
        extremes = (values.min(), values.max()) if values.size else (np.inf, -np.inf)
        rows.append((values.size, mean, ((values - mean) ** 2).sum(), *extremes))
    zeros = int(np.count_nonzero((pixels == 0).all(2) & ~missing.any(2)))
    valid, means, squares, low, high = np.array(rows, np.float64).T
    return Sums(valid, means, squares, low, high, pixels.shape[0] * pixels.shape[1], zeros)
