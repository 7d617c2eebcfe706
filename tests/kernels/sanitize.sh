#!/bin/bash
# Run the tests of the kernels with AddressSanitizer and UndefinedBehaviorSanitizer: any bad access ends the run.
# Usage: tests/kernels/sanitize.sh [arguments of pytest, such as -k stem]. GCC on Linux; the build takes a few minutes,
# once: it is kept in .sanitized-kernels.
set -euo pipefail
cd "$(dirname "$0")/../.."
COMPILER=${CXX:-c++}
# The libraries must come first in Python's process; the compiler and linker run without them.
export CXX="env -u LD_PRELOAD $COMPILER -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
export TORCH_EXTENSIONS_DIR=${TORCH_EXTENSIONS_DIR:-$PWD/.sanitized-kernels}
export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}
# Python's own memory is not freed at its end.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:${ASAN_OPTIONS:-} UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
LD_PRELOAD="$($COMPILER -print-file-name=libasan.so) $($COMPILER -print-file-name=libubsan.so)"
export LD_PRELOAD
python -c "from fastfcn.kernels.loading import available; raise SystemExit(not available())"
exec python -m pytest -n 0 -p no:cacheprovider tests/kernels --deselect tests/kernels/test_build.py "$@"
