# The command line, on the CPU:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=URL --tag dlir .
#   docker run --rm --volume "$PWD:/data" --user "$(id -u):$(id -g)" dlir register --fixed a.nii.gz --moving b.nii.gz --output result
# URL: an index that has torch's build for CPUs. Without it the image has the default build, which on Linux brings CUDA.

FROM python:3.12-slim AS build
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /source
COPY . .
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The versions that are tested; of these, only what the base set of pyproject.toml asks for.
RUN grep -v "^#" requirements-demo.lock > constraints.txt \
    && python -m venv /opt/dlir \
    && /opt/dlir/bin/pip install --no-cache-dir --constraint constraints.txt . \
    && /opt/dlir/bin/pip uninstall --yes pip

FROM python:3.12-slim
COPY --from=build /opt/dlir /opt/dlir
ENV PATH="/opt/dlir/bin:$PATH"
RUN useradd --uid 1000 --create-home dlir
USER 1000
WORKDIR /data
ENTRYPOINT ["dlir"]
CMD ["--help"]
