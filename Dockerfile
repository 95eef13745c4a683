# The server's image, and one that fetches a model into a volume:
#
#   docker build -t ebbinghaus .
#   docker build -t ebbinghaus-fetch --target fetch .
#
# docs/operations.md, "Containers", tells how to run them. RUN --mount needs BuildKit (any Docker since 23) or buildah.

# Where every stage begins: Debian 13, by name, by digest (debian@sha256:...), or a local image of it.
ARG BASE=debian:13-slim

# --- build: compilers and libraries, the two programs, and the names of the packages that these need ---
FROM ${BASE} AS build
WORKDIR /source
COPY scripts/lib.sh scripts/setup.sh scripts/
RUN scripts/setup.sh && apt-get clean && rm -rf /var/lib/apt/lists/*

COPY CMakeLists.txt CMakePresets.json ./
COPY cmake cmake
COPY proto proto
COPY client client
COPY server server
# The cache makes a second build quick; without one everything is compiled. The build tree would be a large layer.
RUN --mount=type=cache,target=/ccache \
    export CCACHE_DIR=/ccache CCACHE_MAXSIZE=1G && . scripts/lib.sh && \
    cmake --preset release -DEBBINGHAUS_TESTS=OFF && \
    cmake --build --preset release -j "$(build_jobs)" --target ebbinghaus-server ebbinghaus && \
    install -D --strip --target-directory=/out/bin build/release/bin/ebbinghaus-server build/release/bin/ebbinghaus && \
    rm -rf build
COPY deploy/container/runtime-packages.sh deploy/container/
RUN deploy/container/runtime-packages.sh /out/bin/* > /out/runtime-packages

# --- packages: what is installed where the server runs ---
FROM ${BASE} AS packages
COPY --from=build /out/runtime-packages /tmp/runtime-packages
RUN export DEBIAN_FRONTEND=noninteractive && apt-get -q update && \
    xargs apt-get -q -y install --no-install-recommends < /tmp/runtime-packages && \
    useradd -K UID_MAX=65533 -K GID_MAX=65533 --uid 65532 --user-group --no-create-home \
      --home-dir /nonexistent --shell /usr/sbin/nologin ebbinghaus && \
    apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/* /tmp/runtime-packages

# --- sbom: the list of all that, by Debian's own records ---
FROM build AS sbom
COPY --from=packages /var/lib/dpkg /packages/dpkg
COPY --from=packages /usr/lib/os-release /packages/os-release
COPY deploy/container/sbom.py deploy/container/
ARG CREATED
RUN python3 deploy/container/sbom.py --dpkg /packages/dpkg --os-release /packages/os-release --created "${CREATED}" \
    --programs /out/bin --compiled-in nlohmann-json3-dev \
    --compiled-in "$(dpkg-query --show --showformat='${Depends}' libboost-dev)" > /out/sbom.spdx.json

# --- fetch: scripts/fetch-model.sh, for an init container or a first service of a composition ---
FROM ${BASE} AS fetch
RUN export DEBIAN_FRONTEND=noninteractive && apt-get -q update && \
    apt-get -q -y install --no-install-recommends ca-certificates curl python3 python3-pip unzip && \
    useradd -K UID_MAX=65533 -K GID_MAX=65533 --uid 65532 --user-group --no-create-home \
      --home-dir /models --shell /usr/sbin/nologin ebbinghaus && \
    install -d -o 65532 -g 65532 /models && \
    apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*
COPY scripts/lib.sh scripts/fetch-model.sh /opt/ebbinghaus/scripts/
COPY deploy/container/fetch.sh /opt/ebbinghaus/
ARG VERSION=0.1.0
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="Ebbinghaus model download" \
      org.opencontainers.image.description="Fetches a model into the volume /models for the Ebbinghaus server" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
USER 65532:65532
VOLUME /models
ENTRYPOINT ["/opt/ebbinghaus/fetch.sh"]
CMD ["default"]

# --- runtime: the server. The last stage, so that a build without --target makes it ---
FROM packages AS runtime
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=sbom /out/sbom.spdx.json /usr/share/doc/ebbinghaus/
COPY LICENSE /usr/share/doc/ebbinghaus/copyright

# From here on other containers reach the server, so it listens on every address, IPv6 or IPv4. Each flag of the server can be set
# like this: --max-batch as EBBINGHAUS_MAX_BATCH. /models/current is what the image `fetch` leaves.
ENV EBBINGHAUS_LISTEN=[::]:50051 \
    EBBINGHAUS_HTTP_LISTEN=[::]:9464 \
    EBBINGHAUS_MODEL=/models/current
EXPOSE 50051 9464

# CMake's project version; a release build gives all three.
ARG VERSION=0.1.0
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="Ebbinghaus" \
      org.opencontainers.image.description="gRPC inference server for large language models whose KV cache forgets" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

# It writes nothing, so the root may be read-only; it needs no capability.
USER 65532:65532
STOPSIGNAL SIGTERM
# Healthy when it serves: not while it loads (the start period; a large model takes minutes) or drains. With
# --tls-cert or another --listen this needs other arguments: docs/operations.md.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["ebbinghaus", "health"]
ENTRYPOINT ["ebbinghaus-server"]
