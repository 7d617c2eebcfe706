"""The parts of benchmarks/speed.py."""

import sys
from pathlib import Path

# What the comparisons of scores know of mmsegmentation, photographs and records (openmmlab.py, forward.py, record.py).
sys.path.append(str(Path(__file__).parents[1] / "parity"))
