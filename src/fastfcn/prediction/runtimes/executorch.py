"""ExecuTorch programs (.pte): lowered to XNNPACK for phones and small devices, run by ExecuTorch's own runtime.

Memory is planned when the program is written, for one image of the largest size given then.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastfcn.errors import WeightsError
from fastfcn.prediction.runtimes.base import Runtime, quiet_exporters

if TYPE_CHECKING:  # torch takes a second to import, which reading metadata does not need
    from torch import Tensor
    from torch.export import ExportedProgram

METADATA = "fastfcn"  # name of the program's method that returns its metadata


def write(program: "ExportedProgram", metadata: dict[str, str], path: Path) -> None:
    """Lower `program`, traced for sizes up to a bound, and write it with `metadata`."""
    with quiet_exporters():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        lowered = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={METADATA: json.dumps(metadata)},
            # The verifier does not support `not` on sizes, which the size checks contain.
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        ).to_executorch()
    path.write_bytes(lowered.buffer)


class ExecuTorchSession:
    """A .pte file in ExecuTorch's runtime; a batch is processed image by image."""

    def __init__(self, path: Path, device: str = "cpu"):
        from executorch.runtime import Runtime as ProgramLoader

        try:
            self.program = ProgramLoader.get().load_program(path)
            self.method = self.program.load_method("forward")
            assert self.method is not None
        except (RuntimeError, AssertionError) as error:
            raise WeightsError(f"{path} is not a valid ExecuTorch program: {error}", "Export it again.") from error
        metadata = self.program.load_method(METADATA) if METADATA in self.program.method_names else None
        self.metadata = json.loads(metadata.execute([])[0]) if metadata else {}

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs for images (B, H, W, C); see `Session.run`."""
        import torch

        outputs = [[output.numpy().copy() for output in self._run_one(image)] for image in torch.from_numpy(images)]
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    def _run_one(self, image: "Tensor") -> "list[Tensor]":
        assert self.method is not None
        return list(self.method.execute([image[None].contiguous()]))


RUNTIME = Runtime(
    name="executorch",
    title="ExecuTorch",
    suffix=".pte",
    write=write,
    open=ExecuTorchSession,
    extra="executorch",
    running_packages=("executorch",),
    tracing="bounded",
)
