"""The memory of a network's run: one range of addresses for all of its large tensors (csrc/common/arena.cpp)."""

import torch


class Arena:
    """Within `with Arena():`, this thread's tensors of 1 MiB or more on a processor come from the kernels' arena.

    It keeps its memory for the next ones. Tensors may outlive the block. Needs the operators of `kernels.build`; on
    other systems than Linux nothing changes. `torch.ops.fastfcn.use_arena(True)` does the same without an end; it
    returns whether that was so before.
    """

    def __enter__(self) -> None:
        self.before = torch.ops.fastfcn.use_arena(True)

    def __exit__(self, *error: object) -> None:
        torch.ops.fastfcn.use_arena(self.before)
