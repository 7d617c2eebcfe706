import pickle

import pytest

from fastfcn.data.sampler import BatchSampler, batch
from fastfcn.errors import UserError


def indices(step: int, **changes: int) -> list[int]:
    arguments = {"rank": 0, "world": 1, "batch": 4, "count": 10, "seed": 3} | changes
    return [key.index for key in batch(step, **arguments)]


def test_every_image_once_per_epoch_although_batches_straddle_epochs():
    seen = [index for step in range(5) for index in indices(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert seen[:10] != list(range(10))


def test_processes_share_the_batch_of_one():
    for step in range(6):
        full = batch(step, rank=0, world=1, batch=4, count=10, seed=3)
        shares = [batch(step, rank=rank, world=2, batch=4, count=10, seed=3) for rank in range(2)]
        assert shares[0] + shares[1] == full
        assert [key.slot for key in full] == [0, 1, 2, 3]


def test_order_depends_on_the_seed_and_on_nothing_else():
    assert indices(7) == indices(7)
    assert indices(0, seed=4, batch=10) != indices(0, seed=3, batch=10)


def test_a_batch_larger_than_the_dataset_repeats_images():
    assert sorted(indices(0, batch=6, count=3)) == [0, 0, 1, 1, 2, 2]


def test_uneven_shares_are_refused():
    with pytest.raises(UserError, match="A batch of 4 cannot be divided evenly among 3"):
        indices(0, world=3)


def test_generators_differ_between_slots_and_steps_and_repeat():
    keys = [key for step in range(3) for key in batch(step, 0, 1, 4, 10, seed=3)]
    draws = [key.generator().random() for key in keys]
    assert len(set(draws)) == len(draws)
    assert draws == [pickle.loads(pickle.dumps(key)).generator().random() for key in keys]
    assert keys[0].generator().random() != batch(0, 0, 1, 4, 10, seed=4)[0].generator().random()


def test_batch_sampler_resumes_in_the_middle():
    batches = list(BatchSampler(count=10, batch=4, seed=3, start=0, end=6))
    assert len(batches) == len(BatchSampler(10, 4, 3, 0, 6)) == 6
    assert list(BatchSampler(10, 4, 3, 4, 6)) == batches[4:]
    assert list(BatchSampler(10, 4, 3, 6, 6)) == []


def test_batch_sampler_in_parts_and_on_two_processes_covers_the_same_slots():
    batches = list(BatchSampler(10, 8, 3, 0, 2))
    shares = [list(BatchSampler(10, 8, 3, 0, 2, rank=rank, world=2, parts=2)) for rank in range(2)]
    assert len(shares[0]) == len(BatchSampler(10, 8, 3, 0, 2, world=2, parts=2)) == 4
    for step in range(2):
        parts = [key for share in shares for part in share[2 * step : 2 * step + 2] for key in part]
        assert parts == batches[step]


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        BatchSampler(0, 4, 3, 0, 1)
