# docker build --target exporter -t mlflow-trace-exporter .      the exporter
# docker build --target demo -t mlflow-trace-exporter-demo .     MLflow, the chatbot and its mock LLM, for docker-compose.yml
FROM python:3.13.9-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH
# The user id is fixed so that volumes keep their owner. Other users in group 0 have the same permissions: OpenShift chooses
# a user id of its own, which has no entry in /etc/passwd and so no other home than this.
ENV HOME=/var/lib/mlflow-trace-exporter
RUN useradd --uid 10500 --home-dir $HOME --create-home exporter && chgrp 0 $HOME && chmod g=u $HOME
WORKDIR /var/lib/mlflow-trace-exporter
LABEL org.opencontainers.image.title="mlflow-trace-exporter" \
      org.opencontainers.image.description="Prometheus metrics for LLM applications, from the traces that MLflow stores" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13.9-slim-bookworm"

FROM base AS wheel
COPY requirements-build.lock /
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /requirements-build.lock
COPY . /src
RUN cd /src && /opt/build/bin/python -m hatchling build -t wheel -d /dist

FROM base AS exporter-packages
COPY requirements-run.lock /
RUN python -m venv /opt/venv && pip install --no-cache-dir --require-hashes -r /requirements-run.lock
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-deps /dist/*.whl && pip uninstall --yes pip

FROM base AS demo-packages
COPY requirements.lock /
RUN python -m venv /opt/venv && pip install --no-cache-dir --require-hashes -r /requirements.lock
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-deps /dist/*.whl

FROM base AS demo
LABEL org.opencontainers.image.title="mlflow-trace-exporter-demo" \
      org.opencontainers.image.description="MLflow, and a chatbot with a stand-in for its LLM, to try mlflow-trace-exporter"
COPY --from=demo-packages /opt/venv /opt/venv
ARG REVISION CREATED
LABEL org.opencontainers.image.revision="$REVISION" org.opencontainers.image.created="$CREATED"
USER exporter

FROM base AS exporter
COPY --from=exporter-packages /opt/venv /opt/venv
# Only a release sets them. They come after what takes long, because a changed argument ends the use of the build cache.
ARG REVISION CREATED
LABEL org.opencontainers.image.revision="$REVISION" org.opencontainers.image.created="$CREATED"
USER exporter
VOLUME /var/lib/mlflow-trace-exporter
EXPOSE 10500
# With TLS in --web.config.file: docker run --health-cmd="mlflow-trace-exporter probe --insecure https://127.0.0.1:10500"
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["mlflow-trace-exporter", "probe"]
ENTRYPOINT ["mlflow-trace-exporter"]
CMD ["serve", "--web.listen-address=:10500"]
