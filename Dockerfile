# syntax=docker/dockerfile:1
# An image with the command line: `worker`, `serve`, `db upgrade` and every other command of pg-semantic.
#
#   docker build --target cpu .       OpenVINO and torch; the default of docker-compose.yml
#   docker build --target cuda .      torch with CUDA; run it with --gpus all
#
# The image contains no weights: encoders are downloaded on first use into the volume /var/lib/pg-semantic, or mounted
# there. torch for Linux includes CUDA libraries. For the smaller CPU build, pass PyTorch's CPU package index:
# --build-arg PIP_EXTRA_INDEX_URL=...

FROM python:3.13-slim AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/pg-semantic/bin:$PATH
RUN python -m venv /opt/pg-semantic
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY pg_semantic pg_semantic
COPY migrations migrations

FROM build AS build-cpu
RUN pip install ".[cpu,int8,remote,serve]"

FROM build AS build-cuda
RUN pip install ".[encode,remote,serve]"

FROM python:3.13-slim AS base
RUN useradd --system --uid 10001 --home-dir /var/lib/pg-semantic --create-home semantic
ENV PATH=/opt/pg-semantic/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HF_HOME=/var/lib/pg-semantic/huggingface PG_SEMANTIC_CACHE_FOLDER=/var/lib/pg-semantic/encoders
USER semantic
WORKDIR /var/lib/pg-semantic
VOLUME /var/lib/pg-semantic
STOPSIGNAL SIGTERM
ENTRYPOINT ["pg-semantic"]
CMD ["--help"]

FROM base AS cuda
COPY --from=build-cuda /opt/pg-semantic /opt/pg-semantic

FROM base AS cpu
COPY --from=build-cpu /opt/pg-semantic /opt/pg-semantic
