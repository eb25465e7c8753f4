# DICOM Node as a container image.
#
#   docker build --target cpu -t dicom-node:cpu .     models on the processor
#   docker build --target gpu -t dicom-node:gpu .     models on NVIDIA GPUs: docker run --gpus all
#
# Everything that is installed is pinned by constraints.txt. Once built, the image needs no network
# but to peers: no package, model or licence is fetched when it runs.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04


FROM ${PYTHON_IMAGE} AS build-cpu
WORKDIR /source
COPY . .
# Torch without CUDA is a tenth of the size. An index of your own: --build-arg TORCH_INDEX=...
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/source/constraints.txt
RUN python3 -m venv /opt/dicom-node \
    && /opt/dicom-node/bin/pip install --extra-index-url "${TORCH_INDEX}" -c constraints.txt '.[cpu,s3]'


FROM ${CUDA_IMAGE} AS python-cuda
# The base has CUDA and no Python; Ubuntu keeps one 3.12 only, the latest of its corrections.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        'python3.12=3.12.*' 'python3.12-venv=3.12.*' \
    && rm -rf /var/lib/apt/lists/*


FROM python-cuda AS build-gpu
WORKDIR /source
COPY . .
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/source/constraints.txt
RUN python3.12 -m venv /opt/dicom-node \
    && /opt/dicom-node/bin/pip install -c constraints.txt '.[gpu,s3]'


FROM python-cuda AS gpu
LABEL org.opencontainers.image.title="DICOM Node (GPU)" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-gpu /opt/dicom-node /opt/dicom-node
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/dicom-node \
        --shell /usr/sbin/nologin dicom-node \
    && install -d -o dicom-node -g dicom-node -m 750 /var/lib/dicom-node /etc/dicom-node
ENV PATH=/opt/dicom-node/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/dicom-node
EXPOSE 11112 8042
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=4 \
    CMD ["/opt/dicom-node/bin/python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8042/healthz', timeout=5)"]
USER 10001:10001
ENTRYPOINT ["/opt/dicom-node/bin/dicom-node"]
CMD ["serve"]


# The last one is what `docker build .` makes.
FROM ${PYTHON_IMAGE} AS cpu
LABEL org.opencontainers.image.title="DICOM Node (CPU)" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-cpu /opt/dicom-node /opt/dicom-node
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/dicom-node \
        --shell /usr/sbin/nologin dicom-node \
    && install -d -o dicom-node -g dicom-node -m 750 /var/lib/dicom-node /etc/dicom-node
ENV PATH=/opt/dicom-node/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/dicom-node
EXPOSE 11112 8042
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=4 \
    CMD ["/opt/dicom-node/bin/python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8042/healthz', timeout=5)"]
USER 10001:10001
ENTRYPOINT ["/opt/dicom-node/bin/dicom-node"]
CMD ["serve"]
