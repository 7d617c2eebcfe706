"""Read many damaged inputs and list what ended otherwise than with a clear error.

    python -m tests.fuzz --count 10000 --seed 0
    python -m tests.fuzz --only "dataset.toml" --count 500

Each input depends on (seed, target, number) alone. An input that takes longer than 20 seconds of processor time, ends
in anything but UserError, or needs more than 4 GiB is a fault. Faults are grouped by where they were raised; the input
of the first of each group is written to --keep.
"""

import argparse
import os
import tempfile
from pathlib import Path

from tests.fuzz.run import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="inputs in all (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all damage (default: 0)")
    parser.add_argument("--only", default="", help="targets whose name holds this text")
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that showed a fault")
    args = parser.parse_args()
    os.environ.setdefault("FASTFCN_KERNELS", "off")
    with tempfile.TemporaryDirectory() as folder:
        result = fuzz(Path(folder), args.count, args.seed, args.only, args.keep, progress=True)
    print(f"{sum(result.counts.values())} inputs, {len(result.faults)} kinds of fault")
    for place, (number, name, text) in sorted(result.faults.items(), key=lambda item: -item[1][0]):
        print(f"{number:6d}x  {place}\n         {name}: {text}")
    return bool(result.faults)


if __name__ == "__main__":
    raise SystemExit(main())
