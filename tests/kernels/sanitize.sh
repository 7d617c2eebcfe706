#!/bin/bash
# Run the tests of the kernels with AddressSanitizer and UndefinedBehaviorSanitizer: any bad access ends the run.
# Usage: tests/kernels/sanitize.sh [arguments of pytest, such as -k stem]. GCC on Linux; the build takes a few minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
COMPILER=${CXX:-c++}
export CXX="$COMPILER -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
export TORCH_EXTENSIONS_DIR=${TORCH_EXTENSIONS_DIR:-$PWD/.sanitized-kernels}
export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}
# Python's own memory is not freed at its end, and OpenMP's threads use more stack than usual.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:${ASAN_OPTIONS:-} UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
python -c "from fastfcn.kernels.build import available; assert available()" 2> /dev/null || true # builds; cannot load yet
export LD_PRELOAD="$($COMPILER -print-file-name=libasan.so) $($COMPILER -print-file-name=libubsan.so)"
exec python -m pytest -n 0 -p no:cacheprovider tests/kernels --deselect tests/kernels/test_build.py "$@"
