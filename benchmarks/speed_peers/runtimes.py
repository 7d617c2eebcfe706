"""OpenVINO and ONNX Runtime, in float32, on mmsegmentation's network as ONNX of one size."""

import numpy as np
import torch

from speed_peers.calls import Call, Place, full_labels
from speed_peers.contests import Contest, Variant

MANY_CLASSES = 32


def end_of(classes: int) -> str:
    """Where the graph ends, as is faster for both: of many classes torch resizes scores and takes their maximum.

    Processor time in ms of that end, for ONNX Runtime, OpenVINO and torch with channels last: 31, 51 and 43 from
    19x64x128 to 512x1024, 246, 191 and 121 from 150x64x64 to 512x512 (EPYC with AVX-512, one thread).
    """
    return "labels" if classes <= MANY_CLASSES else "scores"


def onnx_path(place: Place, contest: Contest, variant: Variant, end: str) -> str:
    height, width = contest.size
    return str(place.folder / f"{variant.network.name}_{height}x{width}.{end}.onnx")


def load_openvino(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": place.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_HYPER_THREADING": True,  # the threads that were asked for, whatever they run on
    }
    end = end_of(variant.classes)
    path = onnx_path(place, contest, variant, end)
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(pixels: np.ndarray) -> np.ndarray:
        request.infer([pixels])
        return request.get_output_tensor(0).data

    return ended(run, end, image)


def load_onnxruntime(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = place.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    end = end_of(variant.classes)
    path = onnx_path(place, contest, variant, end)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return ended(lambda pixels: session.run(None, {"image": pixels})[0], end, image)


def ended(run, end: str, image: np.ndarray) -> Call:
    """The call whose graph ends in labels, or in scores that torch resizes."""
    pixels = np.ascontiguousarray(image[None])
    if end == "labels":
        return lambda: run(pixels)[0].copy()
    like = torch.empty(pixels.shape, device="meta")

    def call() -> np.ndarray:
        scores = torch.from_numpy(run(pixels)).contiguous(memory_format=torch.channels_last)
        return full_labels(scores, like)[0].numpy()

    return call
