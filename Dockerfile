# A vzero server. CPU by default; for CUDA:
#   docker build --build-arg EXTRA=gpu --build-arg TORCH_INDEX= -t vzero:cuda .
#   docker run --gpus all -p 50051:50051 -v vzero-data:/data vzero:cuda
FROM python:3.11-slim AS build
# server: faiss for CPUs; gpu: faiss for CUDA.
ARG EXTRA=server
# Where the CPU build of torch comes from; empty takes the CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /venv
COPY constraints.txt ./
RUN /venv/bin/pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
COPY training training
COPY datasets datasets
RUN /venv/bin/pip install -c constraints.txt ".[$EXTRA]"

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 vzero \
    && mkdir /data && chown vzero:vzero /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VZERO_HOST=0.0.0.0 \
    VZERO_PORT=50051 \
    VZERO_ADMIN_HOST=0.0.0.0 \
    VZERO_ADMIN_PORT=9464 \
    VZERO_DATA_DIR=/data
USER vzero
VOLUME /data
EXPOSE 50051 9464
# Serving, not merely listening: the model is loaded and the server is not draining.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['VZERO_ADMIN_PORT'] + '/readyz', timeout=4)"]
# SIGTERM drains; give it longer than VZERO_DRAIN_TIMEOUT before killing it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vzero"]
CMD ["serve"]
