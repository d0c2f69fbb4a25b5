# The programs, users and capabilities of the images that `make images` makes (which needs no daemon
# and pulls nothing), for those who prefer to build by
#     docker build --target mooring-dns --build-arg VERSION=dev -t localhost/mooring-dns:dev .
#     docker build --target mooring-proxy --build-arg VERSION=dev -t localhost/mooring-proxy:dev .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
RUN apt-get update && apt-get install -y --no-install-recommends libcap2-bin
WORKDIR /source
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=dev
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH make build VERSION="$VERSION"
# A user other than root may then listen on port 53.
RUN setcap cap_net_bind_service=+ep bin/mooring-dns

FROM scratch AS mooring-dns
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/bin/mooring-dns /mooring-dns
ENV PATH=/
USER 65532:65532
ENTRYPOINT ["/mooring-dns"]

FROM scratch AS mooring-proxy
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/bin/mooring-proxy /source/bin/mooringctl /
ENV PATH=/
USER 0:0
ENTRYPOINT ["/mooring-proxy"]
