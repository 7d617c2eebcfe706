"""Memory for large tensors of a network's run: one address range, reused between calls (csrc/common/arena.cpp)."""

import torch


class Arena:
    """Context manager: this thread's CPU tensors of 1 MiB or more are allocated in the kernels' arena.

    The arena keeps its memory for later allocations, and tensors may outlive the block. It needs the operators of
    `kernels.available`, and has no effect on systems other than Linux. `torch.ops.fastfcn.use_arena(True)` enables it
    without an end and returns whether it was enabled before.
    """

    def __enter__(self) -> None:
        self.before = torch.ops.fastfcn.use_arena(True)

    def __exit__(self, *error: object) -> None:
        torch.ops.fastfcn.use_arena(self.before)
