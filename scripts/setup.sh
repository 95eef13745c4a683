#!/usr/bin/env bash
# Installs the Debian packages that building and running Ebbinghaus needs.
#
#   scripts/setup.sh [--all]     --all: also what only `scripts/test.sh --all` uses
#
# Runs as root or with sudo; does nothing, and needs neither, when everything is there. Tried on Debian 12 and 13.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BUILD=(build-essential clang cmake ninja-build ccache pkg-config) # clang: for the kernels only
LIBRARIES=(
  libtorch-dev
  libopenblas0-pthread # without it Debian 13's libtorch computes with the slow reference BLAS
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  libspdlog-dev prometheus-cpp-dev libboost-dev nlohmann-json3-dev libpcre2-dev libicu-dev libssl-dev
  libgtest-dev libgmock-dev
)
TOOLS=(ca-certificates curl unzip python3 python3-pip python3-venv)
ALL=(
  shellcheck clang-format bible-kjv-text anarchism
  buildah debootstrap podman runc # images without a daemon, on a Debian 13 made here
  prometheus                      # promtool too
  libclang-rt-dev llvm            # for scripts/fuzz.sh: Clang's sanitizers, and what names the lines in their reports
)

# The Debian packages would fight with a Node.js, or be hidden by a Go, that came another way.
command -v npm >/dev/null || ALL+=(npm)
command -v go >/dev/null || ALL+=(golang)

packages=("${BUILD[@]}" "${LIBRARIES[@]}" "${TOOLS[@]}")
case "${1:-}" in
  '') ;;
  --all) packages+=("${ALL[@]}") ;;
  *)
    log "usage: scripts/setup.sh [--all]"
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  die "this is no Debian system; install the counterparts of these packages: ${packages[*]}"
fi
# shellcheck source=/dev/null
version=$(. /etc/os-release && printf '%s %s' "${ID:-unknown}" "${VERSION_ID:-}")
case "$version" in
  'debian 12' | 'debian 13') ;;
  *) log "note: tried on Debian 12 and 13, this is $version" ;;
esac

# The packages of our list that are not installed, one per line.
missing_packages() {
  local installed
  # dpkg-query fails when it does not know one of the names; what it prints is right nevertheless.
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
  comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) \
    <(sed -n 's/^installed //p' <<<"$installed" | sort -u)
}

mapfile -t missing < <(missing_packages)
if ((${#missing[@]} == 0)); then
  log "setup: all ${#packages[@]} packages are there"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || die "needs root or sudo to install: ${missing[*]}"
  as_root=(sudo)
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300
  -o Acquire::Retries=3)
# Its package starts a server on port 9090 at once and at every boot. The tests need the programs alone.
unwanted_service=false
[[ " ${missing[*]} " != *" prometheus "* || ! -d /run/systemd/system ]] || unwanted_service=true
log "setup: installing ${missing[*]}"
"${apt[@]}" update >&2
"${apt[@]}" install --no-install-recommends "${missing[@]}" >&2
if $unwanted_service; then
  "${as_root[@]}" systemctl disable --quiet --now prometheus.service >&2 || log "note: prometheus.service still runs"
fi

mapfile -t missing < <(missing_packages)
((${#missing[@]} == 0)) || die "still missing after the installation: ${missing[*]}"
log "setup: done"
