#   docker build --tag svdraw:cpu .                  for any machine (the default target)
#   docker build --tag svdraw:gpu --target gpu .     for a GPU; the host needs only the NVIDIA container toolkit
#   ... --build-arg PYTHON_IMAGE=...                 start from this image, which may be named by its digest
#   ... --build-arg PIP_EXTRA_INDEX_URL=...          take a smaller PyTorch without CUDA from the index named
#
# The entry point is `svdraw`, so the command is one of its commands with their options:
#   docker run --init svdraw:cpu fit --help

# A name with a digest, as `make digests` finds it, makes two builds start from the same files.
ARG PYTHON_IMAGE=python:3.11-slim

# Dependencies in a layer of their own: a change of the sources rebuilds none of them. Only files whose hashes are in the
# lock are installed, and nothing is built from sources, for which there would be no hashes.
FROM ${PYTHON_IMAGE} AS dependencies
# PyTorch also publishes builds without CUDA, some gigabytes smaller, in a package index of its own. Name it here, and
# have `make lock` name it too, since these files have hashes of their own.
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /build
RUN python -m venv /opt/svdraw
COPY deploy/image.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/svdraw/bin/pip install --require-hashes --only-binary :all: --requirement image.lock

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /build
COPY deploy/build.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: --requirement build.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY training training
COPY index index
COPY service service
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist .

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="svdraw" \
      org.opencontainers.image.description="Sketch-to-photo search with truncatable embeddings" \
      org.opencontainers.image.licenses="Apache-2.0"
# Named volumes take their owner from these folders when they are first mounted.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /data svdraw \
    && mkdir --parents /data/models /data/galleries /data/cache \
    && chown --recursive svdraw:svdraw /data
ENV PATH=/opt/svdraw/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    XDG_CACHE_HOME=/data/cache \
    HF_HOME=/data/cache/huggingface \
    TORCH_HOME=/data/cache/torch \
    MPLCONFIGDIR=/data/cache/matplotlib
WORKDIR /data
VOLUME ["/data/models", "/data/galleries", "/data/cache"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["svdraw"]
CMD ["serve", "--gallery", "/data/galleries/default", "--host", "0.0.0.0", "--port", "8000"]

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies /opt/svdraw /opt/svdraw
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist \
    pip install --no-cache-dir --no-deps /dist/*.whl
USER 10001:10001

FROM runtime AS cpu
COPY --from=dependencies /opt/svdraw /opt/svdraw
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist \
    pip install --no-cache-dir --no-deps /dist/*.whl
USER 10001:10001
