# Serves a weights file on the CPU:
#   docker build -t fastfcn .
#   docker run --rm -p 8000:8000 -e FASTFCN_TOKEN=SECRET -v "$PWD/weights:/weights:ro" fastfcn /weights/weights.safetensors
FROM python:3.12-slim

# g++ builds the CPU kernels, when the container loads the weights.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 fastfcn

# Replaced by a CUDA index for a GPU image: see docs/serve.md.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir '/src[serve]' && rm -rf /src

USER fastfcn
WORKDIR /home/fastfcn
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
  CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"
ENTRYPOINT ["fastfcn", "serve", "--host", "0.0.0.0"]
CMD ["/weights/weights.safetensors"]
