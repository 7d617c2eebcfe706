"""Store the scores that tests/test_parity.py expects: mmsegmentation's, from weights drawn by key name.

Run in the peers' environment (README.md):

    python benchmarks/parity/store_scores.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import openmmlab
import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))
import named_weights  # noqa: E402

# The second is narrow, but wide enough at stride 8 (51 columns) for every dilation of ASPP to matter.
SIZES = ((97, 65), (41, 401))
MAIN, AUXILIARY = 150, 40  # scores kept of each image


def sample(scores: Tensor, count: int, seed: int) -> dict:
    """`count` scores at positions into the flattened map, and the standard deviation of the whole."""
    flat = scores.numpy().ravel()
    positions = np.sort(np.random.PCG64(seed).random_raw(count) % flat.size)
    return {
        "shape": list(scores.shape),
        "std": float(f"{flat.std():.7g}"),
        "positions": positions.tolist(),
        "scores": [float(f"{flat[position]:.7g}") for position in positions],
    }


def stored(architecture: openmmlab.Architecture) -> dict:
    model = openmmlab.build(architecture)
    drawn = named_weights.weights(architecture.head, architecture.classes, architecture.jpu)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in drawn}, strict=True)
    images = []
    for seed, size in enumerate(SIZES):
        image = torch.from_numpy(named_weights.image(*size))
        auxiliary, presence = openmmlab.side_scores(model, image)
        entry = {"size": list(size), "main": sample(openmmlab.scores(model, image), MAIN, seed)}
        entry["auxiliary"] = sample(auxiliary, AUXILIARY, seed)
        if presence is not None:
            entry["presence"] = sample(presence, architecture.classes, seed)
        images.append(entry)
    return {
        "made_by": "benchmarks/parity/store_scores.py",
        "mmsegmentation": openmmlab.mmseg.__version__,
        "torch": torch.__version__,
        "config": architecture.config.name,
        "recipe": architecture.recipe,
        "head": architecture.head,
        "classes": architecture.classes,
        "jpu": architecture.jpu,
        "images": images,
    }


def main() -> None:
    folder = REPOSITORY / "tests" / "stored_scores"
    folder.mkdir(exist_ok=True)
    for architecture in openmmlab.ARCHITECTURES:
        if architecture.classes == 19:
            path = folder / f"{architecture.name}.json"
            path.write_text(json.dumps(stored(architecture)) + "\n")
            print(path.relative_to(REPOSITORY), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
