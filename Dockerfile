# The image of agent, controller and gate: Debian 12 with the package that `make deb` makes, and nothing else.
#
#   docker build -t postern .
#
# `make check-image` builds it with buildah and runs what deploy/ says of it in a containerd.
FROM debian:12-slim AS build
WORKDIR /postern
COPY tools/install-packages tools/
RUN tools/install-packages --build
COPY . .
RUN make -j"$(nproc)" all deb && mv build/postern_*.deb /postern.deb

FROM debian:12-slim
COPY --from=build /postern.deb /tmp/
# ca-certificates is what wellKnownCACertificates: System means; bpftool is what posternctl reads the kernel with.
RUN apt-get update && apt-get install -y --no-install-recommends /tmp/postern.deb ca-certificates bpftool && \
    rm -rf /tmp/postern.deb /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/man
USER 65532:65532
ENTRYPOINT ["/usr/bin/posternctl"]
