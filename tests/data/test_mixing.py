"""CutMix and copy-paste: what is pasted, and that samples depend on nothing but seed, step and slot."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fastfcn import build
from fastfcn.data.dataset import Dataset
from fastfcn.data.mixing import CopyPaste, CutMix, Sample
from fastfcn.data.sampler import BatchSampler, SampleKey
from fastfcn.data.transforms import unpack
from fastfcn.errors import RecipeError
from fastfcn.utils.sizes import IGNORE_INDEX
from tests.helpers.tiny import tiny_recipe, write_streets

CUTMIX = 'mix={kind="cutmix", probability=0.7, alpha=1.0}'
COPY_PASTE = 'mix={kind="copy_paste", probability=0.7, classes=["car", "sign"]}'
SIZE = (12, 16)


def sample(value: int) -> Sample:
    """Image and label have the same number everywhere."""
    return torch.full((3, *SIZE), float(value)), torch.full(SIZE, value, dtype=torch.uint8)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def rectangle(inside: Tensor) -> bool:
    return torch.equal(inside, inside.any(1, keepdim=True) & inside.any(0, keepdim=True))


def test_cutmix_pastes_a_rectangle_into_image_and_label():
    """The share that is kept is uniform for alpha = 1; cutting at the edges leaves more of the sample."""
    shares = []
    for seed in range(300):
        image, label = CutMix(1.0, 1.0)(sample(1), lambda *_: sample(2), rng(seed))
        assert torch.equal(image, label.expand(3, -1, -1).float())
        assert rectangle(label == 2)
        shares.append((label == 2).double().mean().item())
    assert 0.25 < np.mean(shares) < 0.5
    assert min(shares) < 0.05
    assert max(shares) > 0.8


def test_the_probability_of_mixing():
    for mixing in (CutMix(0.3, 1.0), CopyPaste(0.3, (2,))):
        before = sample(1)
        after = [mixing(before, lambda *_: sample(2), rng(seed)) for seed in range(300)]
        assert 0.2 < np.mean([result is not before for result in after]) < 0.4
    assert (before[1] == 1).all()


def test_ignored_pixels_are_pasted_as_such():
    other = sample(2)
    other[1][:] = IGNORE_INDEX
    _, label = CutMix(1.0, 1.0)(sample(1), lambda *_: other, rng(0))
    assert set(label.unique().tolist()) == {1, IGNORE_INDEX}


def objects() -> Sample:
    """Two objects of class 2, one of class 3 that touches the second, class 4 and ignored pixels."""
    label = torch.zeros(SIZE, dtype=torch.uint8)
    label[1:3, 1:3] = label[5:8, 10:12] = 2
    label[5:8, 12] = 3
    label[9:, :4] = 4
    label[9:, 8:] = IGNORE_INDEX
    return label.expand(3, -1, -1).float() + 100, label


def test_copy_paste_takes_entire_objects_of_the_classes_alone():
    image, label = objects()
    parts = {"first": (label == 2) & (torch.arange(16) < 5), "third": label == 3}
    parts["second"] = (label == 2) & ~parts["first"]
    seen = set()
    for seed in range(60):
        mixed, classes = CopyPaste(1.0, (3, 2))(sample(1), lambda *_: (image, label), rng(seed))
        pasted = classes != 1
        assert torch.equal(mixed, torch.where(pasted, image, torch.tensor(1.0)))
        assert torch.equal(classes[pasted], label[pasted])
        names = [name for name, part in parts.items() if pasted[part].any()]
        assert all(pasted[parts[name]].all() for name in names)
        assert int(pasted.sum()) == sum(int(parts[name].sum()) for name in names)
        seen.add(tuple(names))
    assert len(seen) == 7  # every choice but none


def test_copy_paste_without_a_partner_or_objects_changes_nothing():
    mixing = CopyPaste(1.0, (9,))
    assert torch.equal(mixing(sample(1), lambda *_: objects(), rng(0))[1], sample(1)[1])
    assert torch.equal(mixing(sample(1), lambda *_: None, rng(0))[1], sample(1)[1])


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def dataset(streets: Path, *changes: str) -> Dataset:
    recipe = tiny_recipe("data.crop=[32, 48]", *changes)
    return build.dataset(recipe, build.description(recipe), streets, "train", train=True)


def keys(steps: range, world: int = 1) -> list[list[SampleKey]]:
    """The batches of all steps, of `world` processes together."""
    samplers = [BatchSampler(6, 4, 3, steps.start, steps.stop, rank, world) for rank in range(world)]
    return [list(chain(*batches)) for batches in zip(*samplers, strict=True)]


@pytest.mark.parametrize("mix", [CUTMIX, COPY_PASTE])
def test_processes_workers_and_resuming_do_not_change_the_batches(streets, mix):
    data = dataset(
        streets, mix, 'crops={kind="classes", probability=0.5, power=0.5}',
        'colors={kind="rand_augment", operations=2, magnitude=5}',
    )  # fmt: skip
    batches = [[data[key] for key in batch] for batch in keys(range(3))]
    for first, other in ((0, keys(range(3), world=2)), (2, keys(range(2, 3)))):
        for batch, expected in zip(other, batches[first:], strict=True):
            for key, (image, label) in zip(batch, expected, strict=True):
                assert torch.equal(data[key][0], image)
                assert torch.equal(data[key][1], label)
    loader = DataLoader(data, batch_sampler=BatchSampler(6, 4, 3, 0, 3), num_workers=2)  # type: ignore[arg-type]
    for (images, labels), expected in zip(loader, batches, strict=True):
        assert torch.equal(images, torch.stack([image for image, _ in expected]))
        assert torch.equal(labels, torch.stack([label for _, label in expected]))


def test_mixing_draws_from_a_stream_of_its_own(streets):
    """The sample under what is pasted is the one without mixing, and it is pasted in some samples only."""
    plain, mixed = dataset(streets), dataset(streets, COPY_PASTE)
    names = mixed.description.class_names
    pasted = 0
    for key in [key for batch in keys(range(6)) for key in batch]:
        (image, label), (other, classes) = plain[key], mixed[key]
        changed = (image != other).any(0) | (label != classes)
        assert {names[index] for index in classes[changed].tolist()} <= {"car", "sign"}
        pasted += bool(changed.any())
    assert 6 < pasted < 24
    assert SampleKey(0, 0, 0, 3).mixing_generator().random() != SampleKey(0, 0, 0, 3).generator().random()


def test_only_training_mixes_and_unknown_classes_are_refused(streets):
    recipe = tiny_recipe('mix={kind="copy_paste", probability=0.5, classes=["car", "sing"]}')
    described = build.description(recipe)
    assert build.dataset(recipe, described, streets, "val", train=False).mixing is None
    with pytest.raises(RecipeError, match=r'mix.classes: .sing. is not a class of streets; did you mean "sign"\?'):
        build.dataset(recipe, described, streets, "train", train=True)


@pytest.mark.parametrize("mix", [CUTMIX, COPY_PASTE, 'mix={kind="none"}'])
def test_packed_samples_unpack_to_the_normalized(mix: str, tmp_path: Path):
    recipe = tiny_recipe(mix, "data.scale_range=[0.5, 1.0]")  # some crops are padded
    dataset = build.dataset(recipe, build.description(recipe), write_streets(tmp_path), "train", train=True)
    packed = dataset.packed()
    for number in range(6):
        key = SampleKey(step=number, slot=0, index=number, seed=0)
        image, label = dataset[key]
        pixels, same_label = packed[key]
        assert (image.dtype, pixels.dtype) == (torch.float32, torch.uint8)
        assert torch.equal(unpack(pixels[None], recipe.data.mean, recipe.data.std)[0], image)
        assert torch.equal(label, same_label)
