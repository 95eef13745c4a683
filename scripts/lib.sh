# shellcheck shell=bash
# What the scripts share; sourced, not run. Sets ROOT, the folder of the source tree.
# shellcheck disable=SC2034  # used by those who source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

log() { printf '%s\n' "$*" >&2; }

die() {
  log "$(basename "$0"): $*"
  exit 1
}

# Where downloads of ours live.
cache_folder() { printf '%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}/ebbinghaus"; }

# How many compilers may run at once: one per CPU, and about 1.5 GB of free memory for each.
build_jobs() {
  local cpus megabytes jobs
  cpus=$(nproc)
  megabytes=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
  jobs=$((megabytes / 1500))
  ((jobs < cpus)) || jobs=$cpus
  ((jobs > 0)) || jobs=1
  printf '%s\n' "$jobs"
}

sha256_of() { sha256sum -- "$1" | cut -d' ' -f1; }
