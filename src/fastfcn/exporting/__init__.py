"""Exporting networks to other runtimes: ONNX, OpenVINO, AOTInductor and ExecuTorch."""
