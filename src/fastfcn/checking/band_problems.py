"""Problems of images of bands: files with other bands than most, constant bands, and missing pixels."""

from collections.abc import Iterator

from fastfcn.checking.bands import BandStatistics
from fastfcn.checking.file_problems import pair_files
from fastfcn.checking.layouts import DatasetFiles
from fastfcn.checking.problem import ERROR, INIT, WARNING, Problem

LIKELY_NODATA = 0.01  # share of pixels that are 0 in all bands from which it is reported


def band_problems(dataset: DatasetFiles, bands: BandStatistics) -> Iterator[Problem]:
    """Files with other bands than most, constant bands, and missing pixels."""
    yield from _different_files(dataset, bands)
    constant = [entry for entry in bands.counts if entry.low >= entry.high]
    if constant:
        listed = ", ".join(f"{entry.name} ({entry.low:g})" for entry in constant)
        advice = "They do not help: leave them out of data.bands in the recipe, or check how the files were written."
        yield Problem("band_constant", WARNING, len(constant), (), f"Bands with one value only: {listed}.", advice)
    sums = bands.sums
    missing = max(entry.missing for entry in bands.counts)
    if bands.with_missing:
        message = f"Images with missing pixels (nodata or NaN): {bands.with_missing}, {missing:.2%} of all pixels."
        advice = "They become the mean of their band; give them an ignored value in the masks if they have no class."
        yield Problem("band_nodata", WARNING, bands.with_missing, (), message, advice)
    elif sums.zeros > LIKELY_NODATA * sums.pixels:
        message = f"Pixels that are 0 in every band: {sums.zeros / sums.pixels:.1%}, probably missing ones."
        advice = INIT + "--nodata 0 leaves them out of mean and standard deviation, and fills them with the mean."
        yield Problem("band_zeros", WARNING, 1, (), message, advice)


def _different_files(dataset: DatasetFiles, bands: BandStatistics) -> Iterator[Problem]:
    kinds, usual = list(bands.kinds), bands.usual
    others = {pair: kinds[number] for pair, number in bands.kind_of.items() if not kinds[number].fits(usual)}
    if not others:
        return
    pair, kind = next(iter(others.items()))
    files = pair_files(dataset, sorted(others), "image")
    first = dataset.contents.files.path(dataset.images[pair])
    message = f"Images with other bands than most, which have {usual}: {len(others)} ({first}: {kind})."
    advice = "Write all images with the same bands, in the same order and type."
    yield Problem("bands_differ", ERROR, len(others), files, message, advice)
