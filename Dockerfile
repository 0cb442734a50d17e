# syntax=docker/dockerfile:1
# The image of every pod of charts/marquee: Ray's head and workers, the metrics sidecar, jobs, the controller.
# Two targets that differ in PyTorch alone; both have everything under /opt/marquee and run as uid 1000.
# `make image` builds it with docker or buildah and says how large it is; both targets were built, and a
# cluster ran the one for CPUs. tests/chart/test_image.py reads it.
#
#   make image TARGET=cpu BUILD_ARGS="--build-arg PIP_EXTRA_INDEX_URL=<index of PyTorch's CPU builds>"
#   make image TARGET=cuda
#
# pytorch.org names that index ("Get started", CPU). Without it pip takes the CUDA build, and the build of `cpu`
# stops and says so. PIP_INDEX_URL does the same for a mirror of your own.

# The Python the tests run on. Ray wants one minor version in the head, the workers and the one who submits.
ARG PYTHON=3.11.16-slim-trixie

FROM python:${PYTHON} AS builder
# For the packages that have no wheel on a platform; nothing of it reaches the final stages.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv --without-pip /opt/marquee
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Dependencies apart from the source: a changed line of ours does not install Ray and PyTorch again.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*project['dependencies'], *project['optional-dependencies']['cluster'], sep='\n')" > requirements.txt

FROM builder AS wheel
COPY marquee.py README.md LICENSE ./
COPY features features
COPY training training
COPY serving serving
COPY k8s k8s
COPY loadtests loadtests
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM builder AS built-cpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN pip --python /opt/marquee/bin/python install -c constraints.txt -r requirements.txt \
    && /opt/marquee/bin/python -c "import sys, torch; \
    sys.exit(torch.version.cuda and 'this PyTorch is built for CUDA: name the index of its CPU builds')"
COPY k8s/image.py /image.py
RUN python /image.py prune /opt/marquee
# Copied, not mounted: buildah keeps the layer of a mounted wheel when the wheel is another one.
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/marquee/bin/python install --no-deps /wheel/*.whl && python /image.py check /opt/marquee

FROM builder AS built-cuda
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN pip --python /opt/marquee/bin/python install -c constraints.txt -r requirements.txt \
    && /opt/marquee/bin/python -c "import sys, torch; \
    sys.exit(not torch.version.cuda and 'this PyTorch is built without CUDA')"
COPY k8s/image.py /image.py
RUN python /image.py prune /opt/marquee
# Copied, not mounted: buildah keeps the layer of a mounted wheel when the wheel is another one.
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/marquee/bin/python install --no-deps /wheel/*.whl && python /image.py check /opt/marquee

FROM python:${PYTHON} AS runtime
# pip and its friends go: an image is not changed. profile.d: a login shell (KubeRay's ENABLE_LOGIN_SHELL) sets PATH
# anew. No wget: KubeRay's own readiness probe of a serving pod would need it, the chart has a probe in its place.
RUN python -m pip uninstall --yes setuptools wheel pip \
    && useradd --uid 1000 --create-home --shell /bin/bash marquee \
    && echo 'PATH=/opt/marquee/bin:$PATH' > /etc/profile.d/marquee.sh
# PYTHONDONTWRITEBYTECODE: what pip compiled is there, and the root file system may be read-only.
ENV PATH=/opt/marquee/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MARQUEE_HOME=/home/marquee/data \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /home/marquee
USER 1000:1000
# No ENTRYPOINT: KubeRay runs `bash -c "ray start …"`, and one in between would only be in its way.
CMD ["marquee", "--help"]

FROM runtime AS cpu
COPY --from=built-cpu /opt/marquee /opt/marquee

FROM runtime AS cuda
# PyTorch brings CUDA's libraries; NVIDIA's container runtime brings the driver when these ask for it.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=built-cuda /opt/marquee /opt/marquee
