"""Peak memory includes what a block used and freed, not what was used before."""

import mmap
import time

import pytest
import torch

from fastfcn.bench import memory

MIB = 2**20


def use(mib: int) -> None:
    """Touch every page of a mapping, keep it for many samples, then unmap it.

    Unlike freed memory of the allocator, which may keep it, an unmapped page is returned to the system at once.
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
@pytest.mark.parametrize("context", contexts(), ids=lambda context: context.__name__)
def test_memory_freed_within_is_included(context):
    use(200)
    with context() as peak:
        use(60)
    # Linux counts the pages of each thread in batches, so the result is approximate.
    assert 40 < peak.mib < 120
    assert "first call" in peak.meaning


@pytest.mark.skipif(not contexts(), reason="needs /proc")
def test_cpu_and_unsupported_devices():
    with memory.peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.mib is not None
    assert peak.mib < 20
    with memory.peak_memory(torch.device("meta")) as peak:
        pass
    assert peak.mib is None
    assert "not measured" in peak.meaning


def test_sampling_if_the_high_water_mark_cannot_be_reset(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "no" / "clear_refs")
    if not memory.STATUS.exists():
        pytest.skip("needs /proc")
    with memory.peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.meaning == memory.SAMPLED
