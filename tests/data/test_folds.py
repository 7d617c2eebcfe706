"""Folds: every image in one fold, sequences together, and the notation of splits."""

import pytest

from fastfcn import build
from fastfcn.data.folds import Fold, fold_splits, parse_fold
from fastfcn.data.layout import find_examples
from fastfcn.errors import DataError
from tests.helpers.tiny import tiny_recipe, write_streets

FRAMES = [
    f"{video}_{frame:04d}" for video, count in (("a", 40), ("b", 22), ("c", 38)) for frame in range(0, count * 30, 30)
]
PHOTOS = [
    f"holiday in {place}" for place in ["rome", "paris", "oslo", "bern", "kyiv", "riga", "cork", "lima", "nara", "suva"]
]


@pytest.mark.parametrize("names", [FRAMES, PHOTOS, FRAMES[::-1]])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_image_is_in_one_fold_and_sizes_are_similar(names: list[str], count: int):
    folds = [Fold(number, count, others=False).select(names) for number in range(1, count + 1)]
    assert sorted(index for fold in folds for index in fold) == list(range(len(names)))
    assert max(map(len, folds)) - min(map(len, folds)) <= len(names) / count
    for number, fold in enumerate(folds, start=1):
        assert Fold(number, count, others=True).select(names) == set(range(len(names))) - fold


def test_folds_are_cut_between_sequences_where_one_ends_near():
    folds = [{FRAMES[index] for index in Fold(number, 3, others=False).select(FRAMES)} for number in (1, 2, 3)]
    assert [sorted({name[0] for name in fold}) for fold in folds] == [["a"], ["b"], ["c"]]


def test_long_sequences_are_cut_into_consecutive_parts():
    frames = sorted(Fold(2, 5, others=False).select(FRAMES))
    assert frames == list(range(frames[0], frames[-1] + 1))


def test_folds_depend_on_names_alone():
    first = {PHOTOS[index] for index in Fold(1, 3, others=False).select(PHOTOS)}
    backwards = PHOTOS[::-1]
    assert {backwards[index] for index in Fold(1, 3, others=False).select(backwards)} == first
    assert first != set(sorted(PHOTOS)[: len(first)])  # shuffled


def test_notation():
    assert parse_fold("train+val") == ("train+val", None)
    assert parse_fold("train+val fold 2/5") == ("train+val", Fold(2, 5, others=False))
    assert parse_fold(" train  not fold 1 / 3 ") == ("train", Fold(1, 3, others=True))
    assert [parse_fold(split) for split in fold_splits("val", 2, 4)] == [
        ("val", Fold(2, 4, others)) for others in (True, False)
    ]


@pytest.mark.parametrize("split", ["val fold 0/5", "val fold 6/5", "val fold 1/1"])
def test_folds_that_do_not_exist(split: str):
    with pytest.raises(DataError, match="there is no fold"):
        parse_fold(split)


def test_too_many_folds():
    with pytest.raises(DataError, match="3 images cannot be divided into 5 folds"):
        Fold(1, 5, others=False).select(["a", "b", "c"])


def test_examples_of_a_fold(tmp_path):
    data, description = write_streets(tmp_path), build.description(tiny_recipe())
    everything = find_examples(description, data, "train+val")
    folds = [find_examples(description, data, f"train+val fold {number}/2") for number in (1, 2)]
    assert sorted(folds[0] + folds[1]) == sorted(everything)
    assert find_examples(description, data, "train+val not fold 1/2") == folds[1]
    with pytest.raises(DataError, match="has no split 'nosuch'"):
        find_examples(description, data, "nosuch fold 1/2")
