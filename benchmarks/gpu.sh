#!/usr/bin/env bash
# Measure fastfcn on one NVIDIA GPU in ten minutes: `bash benchmarks/gpu.sh`; `--help` lists the options.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
