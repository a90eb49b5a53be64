# Two images, each one static binary on nothing: `operator` (the default) and `shop`, the example workload.
#
#   docker build .                      hack/image builds it with whichever of docker, podman and buildah is there
#   docker build --target shop .
#
# The C library is glibc, linked statically: its resolver is the one that cluster DNS is tested with, its allocator
# is quick with many threads, and with `scratch` below it nothing needs updates but the binary.

ARG RUST_VERSION=1.95

FROM docker.io/library/rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY . .
# librdkafka's OpenSSL and zlib come from Debian as static archives. --target keeps the flags away from build
# scripts and macros, which cannot be static. Dependencies and their build stay in the cache mounts.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target=$(rustc -vV | sed -n 's/^host: //p') \
 && export OPENSSL_STATIC=1 LIBZ_SYS_STATIC=1 PKG_CONFIG_ALL_STATIC=1 \
 && export RUSTFLAGS='-C target-feature=+crt-static' \
 && cargo build --locked --release --target "$target" --bin spillway --example shop \
 && mkdir -p /out/etc/ssl/certs \
 && cp "target/$target/release/spillway" "target/$target/release/examples/shop" /out/ \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM scratch AS shop
COPY --from=build /out/etc /etc
COPY --from=build /out/shop /shop
USER 65532:65532
ENTRYPOINT ["/shop"]

FROM scratch AS operator
COPY --from=build /out/etc /etc
COPY --from=build /out/spillway /spillway
USER 65532:65532
ENTRYPOINT ["/spillway"]
CMD ["run"]
