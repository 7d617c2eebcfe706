# Serves a weights file on the CPU:
#   docker build -t fastfcn .
#   docker run --rm -p 8000:8000 -e FASTFCN_TOKEN=SECRET -v "$PWD/weights:/weights:ro" fastfcn /weights/weights.safetensors
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 fastfcn

# Replaced by a CUDA index for a GPU image: see docs/serve.md.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"

COPY pyproject.toml hatch_build.py README.md LICENSE /src/
COPY src /src/src
# g++ compiles the CPU kernels into the package; the image has no compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && pip install --no-cache-dir hatchling \
    && FASTFCN_BUILD_KERNELS=1 pip install --no-cache-dir --no-build-isolation '/src[serve]' \
    && apt-get purge -y --auto-remove g++ \
    && rm -rf /src /var/lib/apt/lists/*

USER fastfcn
WORKDIR /home/fastfcn
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
  CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"
ENTRYPOINT ["fastfcn", "serve", "--host", "0.0.0.0"]
CMD ["/weights/weights.safetensors"]
