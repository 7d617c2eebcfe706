#!/usr/bin/env bash
# Measure fastfcn on one NVIDIA GPU in ten minutes: `bash benchmarks/gpu.sh`; `--help` lists the options.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu.py" "$@"
