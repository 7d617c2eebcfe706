"""Peak memory: what is used and freed within counts, what was used before does not."""

import mmap
import time

import pytest
import torch

from fastfcn.bench import memory

MIB = 2**20


def use(mib: int) -> None:
    """Touch every page of a mapping and give it back; the allocator may keep what it has, a mapping is gone.

    It is held for many samples: filling it may take no longer than the time between two.
    """
    with mmap.mmap(-1, mib * MIB) as mapped:
        for start in range(0, mib * MIB, 4096):
            mapped[start] = 1
        time.sleep(20 * memory.SAMPLE_SECONDS)


def contexts():
    if not memory.STATUS.exists():
        return []
    return [memory._sampled] + ([memory._high_water] if memory._can_reset() else [])


@pytest.mark.skipif(not contexts(), reason="needs /proc")
@pytest.mark.parametrize("context", contexts(), ids=lambda each: each.__name__)
def test_what_was_freed_within_counts(context):
    use(200)
    with context() as peak:
        use(60)
    # The system counts pages of each thread in lots, so a little may be missing or in excess.
    assert 40 < peak.mib < 120
    assert "first call" in peak.meaning


@pytest.mark.skipif(not contexts(), reason="needs /proc")
def test_a_cpu_is_measured_and_what_cannot_be_says_so():
    with memory.peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.mib is not None
    assert peak.mib < 20
    with memory.peak_memory(torch.device("meta")) as peak:
        pass
    assert peak.mib is None
    assert "not measured" in peak.meaning


def test_sampling_stands_in_where_the_mark_cannot_be_reset(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "no" / "clear_refs")
    if not memory.STATUS.exists():
        pytest.skip("needs /proc")
    with memory.peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.meaning == memory.SAMPLED
