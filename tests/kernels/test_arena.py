import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fastfcn.kernels.arena import Arena
from tests.helpers import needed

pytestmark = [
    needed.KERNELS,
    pytest.mark.skipif(sys.platform != "linux", reason="there is an arena on Linux only"),
]
MIB = 2**20


@pytest.fixture(autouse=True)
def not_yet() -> Iterator[None]:
    before = torch.ops.fastfcn.use_arena(False)  # an earlier training may have left it enabled
    yield
    torch.ops.fastfcn.use_arena(before)


def filled(mebibytes: int, value: int) -> Tensor:
    return torch.full((mebibytes * MIB,), value, dtype=torch.uint8)


def test_a_tensor_takes_the_lowest_gap_that_is_large_enough():
    with Arena():
        kept = [filled(size, value) for value, size in enumerate((8, 3, 8, 5, 8))]
        three, five = kept[1].data_ptr(), kept[3].data_ptr()
        kept[1] = kept[3] = torch.zeros(1)
        assert filled(4, 9).data_ptr() == five
        assert filled(3, 9).data_ptr() == three
        larger = filled(6, 7)
        assert larger.data_ptr() > kept[4].data_ptr()
    for value in (0, 2, 4):
        assert (kept[value] == value).all()
    assert (larger == 7).all()


def test_adjacent_free_blocks_are_merged():
    with Arena():
        kept = [filled(4, value) for value in range(4)]
        place = kept[1].data_ptr()
        kept[1] = kept[2] = torch.zeros(1)
        assert filled(8, 9).data_ptr() == place


def test_many_sizes_in_any_order_keep_their_values():
    generator = torch.Generator().manual_seed(0)
    kept: dict[int, Tensor] = {}
    with Arena():
        for step in range(300):
            if len(kept) > 12:
                kept.pop(list(kept)[int(torch.randint(len(kept), (), generator=generator))])
            length = int(torch.randint(MIB, 5 * MIB, (), generator=generator))
            kept[step] = torch.full((length,), step % 251, dtype=torch.uint8)
            assert all((tensor == number % 251).all() for number, tensor in list(kept.items())[::5])
    ranges = sorted((value.data_ptr(), value.numel()) for value in kept.values())
    assert all(start + length <= after for (start, length), (after, _) in pairwise(ranges))


def test_only_large_tensors_of_the_thread_that_asked():
    with Arena():
        place = filled(2, 0).data_ptr()
        assert torch.empty(MIB - 1, dtype=torch.uint8).data_ptr() != place
        with ThreadPoolExecutor(1) as other:
            assert other.submit(lambda: filled(2, 0).data_ptr()).result() != place
        assert filled(2, 0).data_ptr() == place
    assert filled(2, 0).data_ptr() != place


def test_several_threads_at_once():
    def work(value: int) -> bool:
        right = True
        with Arena():
            for size in (3, 1, 2) * 20:
                kept = [filled(size, value), filled(1, value + 1)]
                right &= bool((kept[0] == value).all() and (kept[1] == value + 1).all())
        return right

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, (10, 20, 30, 40)))


def test_blocks_within_blocks_and_errors_leave_it_as_it_was():
    with Arena():
        with pytest.raises(ZeroDivisionError), Arena():
            raise ZeroDivisionError
        assert torch.ops.fastfcn.use_arena(True)
    assert not torch.ops.fastfcn.use_arena(False)


def test_tensors_grow_and_shrink_in_place():
    with Arena():
        tensor = filled(2, 3)
        tensor.resize_(3 * MIB)
    assert (tensor[: 2 * MIB] == 3).all()
    tensor.resize_(9 * MIB)
    assert (tensor[: 2 * MIB] == 3).all()


def in_a_fork(work: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own_arena_and_gaps_take_no_memory():
    with Arena():
        kept, gap, last = filled(4, 1), filled(16, 2), filled(4, 3)
        del gap

        def work() -> bool:
            torch.set_num_threads(1)  # other threads do not exist after a fork
            mine = filled(16, 4)
            kept.fill_(5)
            return bool((mine == 4).all() and (last == 3).all())

        assert in_a_fork(work)
        fresh = torch.empty(16 * MIB, dtype=torch.uint8)
        assert not fresh.any()  # was returned to the system, which provides zeroed pages
        assert (kept == 1).all()


def test_without_address_space_the_default_allocator_is_used():
    program = """
import resource, torch
from fastfcn import kernels
from fastfcn.kernels.arena import Arena
assert kernels.available()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
with Arena():
    kept = [torch.full((2**21,), value, dtype=torch.uint8) for value in range(3)]
assert [int(each.sum()) >> 21 for each in kept] == [0, 1, 2]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
