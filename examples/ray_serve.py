"""Serve a network with Ray Serve: each replica loads the weights once and answers like `fastfcn serve`.

pip install 'fastfcn[cluster,serve]' 'ray[serve]'
serve run examples.ray_serve:app weights=weights.safetensors replicas=2
curl -F image=@street.jpg 'http://127.0.0.1:8000/predict?format=labels' -o labels.png
"""

import os
from pathlib import Path
from typing import Any

from ray import serve

from fastfcn.serving.app import create_app
from fastfcn.serving.serve import make_service
from fastfcn.serving.settings import Settings


def app(arguments: dict[str, str]) -> serve.Application:
    """`weights`: a file that all machines can read; `replicas`: their number; `gpus`: of each replica, default 0."""
    weights, gpus = Path(arguments["weights"]).resolve(), float(arguments.get("gpus", 0))
    settings = Settings(token=os.environ.get("FASTFCN_TOKEN"), hosts=("*",))

    def load() -> Any:
        service = make_service(weights, settings, ("cuda" if gpus else "cpu",), workers=1)
        service.warm_up()
        return create_app(service)

    deployment = serve.deployment(
        serve.ingress(load)(),
        name="fastfcn",
        num_replicas=int(arguments.get("replicas", 1)),
        max_ongoing_requests=settings.max_waiting,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
    )
    return deployment.bind()
