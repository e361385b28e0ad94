# Builds the static binary and puts its path in `static`, what it links in `kind`. FHIRWALL_BINARY names one that is already
# built. A libc within: musl where its target is installed, as in deploy/image/Dockerfile; else glibc.
if rustc --print target-libdir --target x86_64-unknown-linux-musl 2>/dev/null | xargs -r test -d; then
  kind=musl; relocations=(); build=(--target x86_64-unknown-linux-musl); static="${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/dist/fhirwall"
else
  # Relative relocations packed: 1.5 MB less, and glibc's static start-up knows them since 2.36.
  kind=glibc; relocations=(-C link-arg=-Wl,-z,pack-relative-relocs); build=(); static="${CARGO_TARGET_DIR:-target}/dist/fhirwall"
fi
[ -n "${FHIRWALL_BINARY:-}" ] || cargo rustc --quiet --profile dist --locked -p fhirwall --bin fhirwall "${build[@]}" -- -C target-feature=+crt-static "${relocations[@]}"
static="${FHIRWALL_BINARY:-$static}"
