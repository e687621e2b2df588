# One image for both containers of a worker: `cellworker gateway`, `cellworker engine`, or both as `cellworker worker`.
#   docker build -t worker .
#   docker buildx build --platform linux/amd64,linux/arm64 -t worker .
# BuildKit's own reader of this file suffices: a `# syntax=` line would fetch another, which nobody pins.
# The tests run on this Python; a build argument takes another of 3.11 to 3.14. What is deployed also names its digest, as the
# workflow does: --build-arg PYTHON=3.11-slim-bookworm@sha256:...
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS builder
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml uv.lock README.md LICENSE hatch_build.py web_build.py ./
COPY scripts ./scripts
COPY web ./web
COPY src ./src
# For instance --build-arg EXTRAS="--extra cassia"
ARG EXTRAS=""
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache \
    UV_LINK_MODE=copy python -B scripts/image_contents.py /opt/cellworker ${EXTRAS}

FROM python:${PYTHON}
ARG PYTHON
LABEL org.opencontainers.image.base.name="docker.io/library/python:${PYTHON}" \
      org.opencontainers.image.title="cellworker" \
      org.opencontainers.image.description="The worker of the Cellenics single-cell platform, in Python alone" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 cellworker \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin cellworker \
 && install --directory --owner 10001 --group 10001 /data
COPY --from=builder /opt/cellworker /opt/cellworker
# Experiments, stores and journal key lie on the volume; nothing else is written but under /tmp.
ENV PATH=/opt/cellworker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATA_DIR=/data \
    STORE_DIR=/data/.stores
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["cellworker"]
CMD ["worker"]
