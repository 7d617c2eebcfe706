"""The record of the fine-tuning comparison, and what the documentation says about it."""

import json

from tests.helpers.paths import ROOT


def test_the_documentation_has_the_recorded_scores():
    record = json.loads((ROOT / "benchmarks/results/fine_tuning.json").read_text())
    network, backbone = (record["starts"][name]["miou"] for name in ("whole network", "backbone alone"))
    assert network > backbone + 3
    text = " ".join((ROOT / "docs/fine-tuning.md").read_text().split())
    steps = record["steps"]
    assert f"with {steps} steps on 8 images, reached a val mIoU of {network:.1f} from all of its weights" in text
    assert f"and {backbone:.1f} from its backbone alone" in text
