"""Parts of benchmarks/speed.py."""

import sys
from pathlib import Path

# Modules about mmsegmentation, sample images and records: openmmlab.py, forward.py, record.py.
sys.path.append(str(Path(__file__).parents[1] / "parity"))
