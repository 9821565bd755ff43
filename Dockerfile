# The farm itself: one image for `farm web`, `farm scheduler` and `farm worker`.
#
# Debian 13, because all that a worker runs is a package of it: git 2.47, docker-buildx,
# Python 3.13. python:3.11-slim-bookworm would need a second package source for buildx.
ARG BASE=debian:trixie-slim

FROM $BASE AS system
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates docker-buildx git python3 socat \
    && rm -rf /var/lib/apt/lists/*

FROM system AS dependencies
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip stays here: it installs into the environment from outside, and is not shipped.
RUN python3 -m venv --without-pip /usr/local/lib/farm
WORKDIR /src
COPY requirements/runtime.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /usr/local/lib/farm/bin/python install --require-hashes -r requirements/runtime.txt

FROM dependencies AS package
COPY pyproject.toml README.md ./
COPY farm farm
COPY web web
COPY workers workers
# No build isolation: it would fetch a build backend that no lock names. Under a root of its own,
# so that a change of our code is a layer of kilobytes over the one of our dependencies.
RUN python3 -m pip --python /usr/local/lib/farm/bin/python install \
        --no-cache-dir --no-deps --no-build-isolation --root /package .

FROM system
# A fixed number, so that volumes keep their owner from one image to the next.
RUN groupadd --gid 10001 farm \
    && useradd --uid 10001 --gid farm --no-create-home --home-dir /var/lib/farm --shell /usr/sbin/nologin farm \
    && install -d -o farm -g farm -m 0750 /var/lib/farm /var/lib/farm-worker /var/lib/farm-enrolment
COPY --from=dependencies /usr/local/lib/farm /usr/local/lib/farm
COPY deploy/worker /usr/local/bin/farm-worker
COPY deploy/healthcheck /usr/local/bin/farm-healthcheck
COPY --from=package /package/ /
# Last: they differ in every build.
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="docker-build-farm" \
      org.opencontainers.image.description="A self-hosted, distributed Docker build farm" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
# The root file system may be read-only: bytecode was compiled at installation.
ENV PATH=/usr/local/lib/farm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FARM_DATA_DIR=/var/lib/farm \
    FARM_LISTEN=0.0.0.0:8080
USER farm
WORKDIR /var/lib/farm
EXPOSE 8080
ENTRYPOINT ["farm"]
CMD ["--help"]
