"""ExecuTorch programs, .pte: lowered to XNNPACK for phones and small devices, run by ExecuTorch's own runtime.

Its memory is planned ahead, for one image of the largest size that was named.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from fastfcn.errors import WeightsError
from fastfcn.prediction.runtimes.onnx import quiet

TEXTS = "fastfcn"  # the method of the program that gives its texts


def write(program: ExportedProgram, texts: dict[str, str], path: Path) -> None:
    """Lower `program`, traced for sizes up to a bound, and write it with `texts`."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        lowered = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={TEXTS: json.dumps(texts)},
            # Its verifier knows no `not` of sizes, which stands in checks of sizes.
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        ).to_executorch()
    path.write_bytes(lowered.buffer)


class ExecuTorchSession:
    """A .pte file in ExecuTorch's runtime, image by image."""

    def __init__(self, path: Path):
        from executorch.runtime import Runtime

        try:
            self.program = Runtime.get().load_program(path)
            self.method = self.program.load_method("forward")
            assert self.method is not None
        except (RuntimeError, AssertionError) as error:
            raise WeightsError(
                f"{path} is not an ExecuTorch program, or is damaged: {error}", "Export it again."
            ) from error
        said = self.program.load_method(TEXTS) if TEXTS in self.program.method_names else None
        self.texts = json.loads(said.execute([])[0]) if said else {}

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """What the program makes of RGB uint8 images (B, H, W, 3)."""
        made = [[each.numpy().copy() for each in self._one(image)] for image in torch.from_numpy(images)]
        return [np.concatenate(parts) for parts in zip(*made, strict=True)]

    def _one(self, image: torch.Tensor) -> list[torch.Tensor]:
        assert self.method is not None
        return list(self.method.execute([image[None].contiguous()]))
