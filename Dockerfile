# Two images, each one static binary on nothing: `operator` (the default) and `shop`, the example workload.
#
#   docker build .                      hack/image builds it with whichever of docker, podman and buildah is there
#   docker build --target shop .
#
# The C library is glibc, linked statically: its resolver is the one that cluster DNS is tested with, and with `scratch`
# below it nothing needs updates but the binary.

ARG RUST_VERSION=1.95

FROM docker.io/library/rust:${RUST_VERSION}-bookworm AS source
WORKDIR /src
# librdkafka's OpenSSL and zlib come from Debian as static archives. A panic ends the process: nothing unwinds.
ENV OPENSSL_STATIC=1 LIBZ_SYS_STATIC=1 PKG_CONFIG_ALL_STATIC=1 RUSTFLAGS="-C target-feature=+crt-static -C force-unwind-tables=no"
COPY . .

# --target keeps RUSTFLAGS away from build scripts and macros, which cannot be static. What is fetched and built
# stays in the cache mounts. Kernels for arm64 have pages of 4 to 64 KiB: the allocator has to be told the largest.
FROM source AS build-operator
ARG REVISION=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target=$(rustc -vV | sed -n 's/^host: //p') \
 && case $target in aarch64*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac \
 && SPILLWAY_REVISION="$REVISION" cargo build --locked --release --target "$target" --bin spillway \
 && install -D "target/$target/release/spillway" /out/spillway \
 && hack/sbom "$target" libssl-dev zlib1g-dev libc6-dev >/out/sbom.cdx.json \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt

FROM scratch AS operator
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Spillway" \
      org.opencontainers.image.description="Kafka and RabbitMQ topology as declared, and consumers scaled by their lag" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build-operator /out /
USER 65532:65532
ENTRYPOINT ["/spillway"]
CMD ["run"]

FROM source AS build-shop
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target=$(rustc -vV | sed -n 's/^host: //p') \
 && cargo build --locked --release --target "$target" --example shop \
 && install -D "target/$target/release/examples/shop" /out/shop \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt

FROM scratch AS shop
COPY --from=build-shop /out /
USER 65532:65532
ENTRYPOINT ["/shop"]

# Without --target.
FROM operator
