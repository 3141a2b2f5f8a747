# The operator's image: CPython, the locked dependencies, and the packages qwensft and qwensft_operator. `docker build .` works as it is.
# ADR 0044 says why it is made like this.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG UV_VERSION=0.13.9
# Some bases bring Python without pip. Nothing of this stage but /app gets into the image.
# hadolint ignore=DL3008
RUN set -eu; \
    if ! python3 -m pip --version >/dev/null 2>&1; then \
        apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*; \
    fi; \
    python3 -m pip install --no-cache-dir --break-system-packages "uv==${UV_VERSION}"
COPY requirements/operator.txt /requirements.txt
RUN set -eu; \
    uv pip install --no-cache --python python3 --require-hashes --no-deps --link-mode copy \
        --target /app -r /requirements.txt; \
    rm -rf /app/bin /app/.lock; \
    find /app -depth \( -name tests -o -name test \) -type d -exec rm -rf {} +; \
    find /app \( -name '*_test.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete
COPY client/qwensft /app/qwensft
COPY operator/qwensft_operator /app/qwensft_operator
# The root file system is read-only at run time, so byte code has to be there before. Sources get one old time, which no
# builder changes (ADR 0142). The generated models and API classes of the Kubernetes client are left out: they are
# loaded on demand only, and the operator demands none.
ARG SOURCE_DATE_EPOCH=315619200
RUN find /app -name '*.py' -newermt "@${SOURCE_DATE_EPOCH}" -exec touch -cd "@${SOURCE_DATE_EPOCH}" {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode timestamp \
        -x '/kubernetes/(aio/)?client/(api|models)/[^_]' /app

FROM ${BASE_IMAGE}
# The python image comes without the byte code of Python's own library.
RUN python3 -m compileall -q -j 0 --invalidation-mode timestamp -x '/(tests?|(site|dist)-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" > /dev/null 2>&1 || true
COPY --from=build /app /app
# HOME: the user has no entry in /etc/passwd, and Path.home() fails without either.
ENV PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/app
WORKDIR /app
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python3", "-m", "qwensft_operator"]
# After every layer, so that another commit builds none anew.
ARG SOURCE=""
ARG VERSION=unreleased
ARG REVISION=""
LABEL org.opencontainers.image.title="qwen-sft-operator" \
      org.opencontainers.image.description="Fine-tunes Qwen models with LLaMA-Factory on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
