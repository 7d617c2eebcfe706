"""A model of an NVIDIA Triton model repository: a verified ONNX file with configuration, class names and test request.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import json
import re
from pathlib import Path

import numpy as np

from fastfcn.prediction.runtimes.metadata import ExportMetadata
from fastfcn.utils.files import write_text

FORMAT = "triton"  # value of `--format`
MODEL = "1/model.onnx"  # version and name, as Triton expects them
LABEL_TYPE = "UINT8"  # datasets have at most 254 classes
MAX_BATCH = 8  # most images that Triton runs as one batch

CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch}
input [
  {{
    name: "image"
    data_type: TYPE_{image_type}
    dims: [ -1, -1, {channels} ]  # height, width, channels
  }}
]
output [
{outputs}
]
dynamic_batching {{ }}
"""
OUTPUT = """\
  {{
    name: "{name}"
    data_type: TYPE_{type}
    dims: [ {dims} ]  # {comment}
  }}"""
README = """\
# {name}

{recipe}, exported to ONNX by fastfcn {version}, for NVIDIA Triton Inference Server.

- Input `image`: {image}, (height, width, {channels}), of any size. Normalization is part of the network.
- Output `labels`: (height, width); label N is the class in line N + 1 of `labels.txt`.

Start Triton in the folder that contains the folder `{name}`, with the release you use in place of RELEASE:

```
docker run --rm -p 8000:8000 -v "$PWD:/models" nvcr.io/nvidia/tritonserver:RELEASE-py3 \\
  tritonserver --model-repository=/models
```

Test it: the response must contain the labels of `test_response.json`{exceptions}.

```
curl --data @{name}/test_request.json http://127.0.0.1:8000/v2/models/{name}/infer
```
"""


def triton_name(name: str) -> str:
    """`name` in letters that a folder, a URL and the configuration can contain."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "network"


def write_model(folder: Path, metadata: ExportMetadata) -> list[str]:
    """Write everything but the network itself to `folder`, which has the name of the model; returns names of files.

    `metadata`: that of the ONNX file.
    """
    contents = {
        "labels.txt": "\n".join(metadata.description.class_names) + "\n",
        **_test_files(metadata),
        "README.md": _readme(folder.name, metadata),
        "config.pbtxt": _config(folder.name, metadata),
    }
    for name, text in contents.items():
        write_text(folder / name, text)
    return list(contents)


def _image_type(metadata: ExportMetadata) -> str:
    """As Triton calls it."""
    return "FP32" if metadata.recipe.data.bands else "UINT8"


def _config(name: str, metadata: ExportMetadata) -> str:
    outputs = [OUTPUT.format(name="labels", type=LABEL_TYPE, dims="-1, -1", comment="height, width")]
    if metadata.logits:
        dims = f"{len(metadata.description.class_names)}, -1, -1"
        outputs.append(OUTPUT.format(name="logits", type="FP32", dims=dims, comment="classes, height, width"))
    return CONFIG.format(
        name=name,
        max_batch=MAX_BATCH,
        image_type=_image_type(metadata),
        channels=metadata.recipe.channels,
        outputs=",\n".join(outputs),
    )


def _test_files(metadata: ExportMetadata) -> dict[str, str]:
    """A request of the Open Inference Protocol with the image of the self-test, and the labels to expect."""
    test = metadata.self_test
    assert test is not None  # every file that is exported has one
    request = {"inputs": [_tensor("image", _image_type(metadata), test.image)], "outputs": [{"name": "labels"}]}
    response = {"outputs": [_tensor("labels", LABEL_TYPE, test.labels)]}
    return {"test_request.json": json.dumps(request) + "\n", "test_response.json": json.dumps(response) + "\n"}


def _tensor(name: str, type: str, array: np.ndarray) -> dict:
    """A batch of one."""
    return {"name": name, "datatype": type, "shape": [1, *array.shape], "data": array.ravel().tolist()}


def _readme(name: str, metadata: ExportMetadata) -> str:
    test = metadata.self_test
    assert test is not None
    ties = int((~test.certain).sum())
    return README.format(
        name=name,
        recipe=metadata.recipe.name,
        version=metadata.made["fastfcn"],
        image="bands in float32" if metadata.recipe.data.bands else "RGB in uint8",
        channels=metadata.recipe.channels,
        exceptions=f", but for {ties} pixels where two classes are equal up to rounding" if ties else "",
    )
