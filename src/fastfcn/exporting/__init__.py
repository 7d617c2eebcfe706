"""Networks as files of other runtimes: ONNX, OpenVINO, AOTInductor and ExecuTorch."""
