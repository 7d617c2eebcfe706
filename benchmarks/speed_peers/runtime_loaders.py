"""OpenVINO and ONNX Runtime, in float32, with mmsegmentation's network exported to ONNX for one size."""

from typing import Any

import numpy as np
import torch

from speed_peers.comparisons import Comparison, Variant
from speed_peers.environment import Call, Environment, full_labels

MANY_CLASSES = 32


def end_of(classes: int) -> str:
    """The faster output of the graph: with many classes, PyTorch resizes the logits and computes the argmax.

    CPU time in ms of this last step for ONNX Runtime, OpenVINO and PyTorch with channels last: 31, 51 and 43 from
    19x64x128 to 512x1024; 246, 191 and 121 from 150x64x64 to 512x512 (EPYC with AVX-512, one thread).
    """
    return "labels" if classes <= MANY_CLASSES else "logits"


def onnx_path(environment: Environment, comparison: Comparison, variant: Variant, end: str) -> str:
    height, width = comparison.size
    return str(environment.folder / f"{variant.network.name}_{height}x{width}.{end}.onnx")


def openvino_settings(threads: int) -> dict[str, Any]:
    """Settings of a compiled model for one image at a time."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_HYPER_THREADING": True,  # use exactly the given number of threads
    }


def onnxruntime_options(threads: int) -> Any:
    """`onnxruntime.SessionOptions` for one image at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


def load_openvino(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    import openvino

    settings = openvino_settings(environment.threads) | {"INFERENCE_PRECISION_HINT": "f32"}
    end = end_of(variant.classes)
    path = onnx_path(environment, comparison, variant, end)
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(pixels: np.ndarray) -> np.ndarray:
        request.infer([pixels])
        return request.get_output_tensor(0).data

    return finish_call(run, end, image)


def load_onnxruntime(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    import onnxruntime

    options = onnxruntime_options(environment.threads)
    end = end_of(variant.classes)
    path = onnx_path(environment, comparison, variant, end)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return finish_call(lambda pixels: session.run(None, {"image": pixels})[0], end, image)


def finish_call(run, end: str, image: np.ndarray) -> Call:
    """A call of a graph whose output is labels, or logits that PyTorch resizes."""
    pixels = np.ascontiguousarray(image[None])
    if end == "labels":
        return lambda: run(pixels)[0].copy()
    like = torch.empty(pixels.shape, device="meta")

    def call() -> np.ndarray:
        logits = torch.from_numpy(run(pixels)).contiguous(memory_format=torch.channels_last)
        return full_labels(logits, like)[0].numpy()

    return call
