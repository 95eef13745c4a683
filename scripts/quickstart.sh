#!/usr/bin/env bash
# From a fresh Debian machine to a streamed answer: installs what is missing, builds, fetches a model, starts the
# server, asks it in each mode, compares the modes, and stops the server.
#
#   scripts/quickstart.sh [MODEL]     MODEL as for scripts/fetch-model.sh; default: a small one, 98 MB
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PROMPT='Who was Hermann Ebbinghaus?'
if (($# > 1)) || [[ ${1:-} == -* ]]; then
  log "usage: scripts/quickstart.sh [MODEL]"
  exit 2
fi
name=${1:-default}

cd "$ROOT"
mkdir -p build
log_file=$ROOT/build/quickstart.log
: >"$log_file"
started=$SECONDS
server_pid=

step() { printf '\n==> %s\n' "$*"; }

# Ninja's `[3/120] ...` lines, thinned out to one every ten seconds.
show_progress() {
  local line shown=-10
  while read -r line; do
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    if ((SECONDS - shown >= 10)) || [[ ${BASH_REMATCH[1]} == "${BASH_REMATCH[2]}" ]]; then
      shown=$SECONDS
      printf '    %s of %s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    fi
  done
}

# Whatever happens, the server goes, and a failure says where to read on.
finish() {
  local code=$?
  trap - EXIT INT TERM
  if [[ -n $server_pid ]] && kill -TERM "$server_pid" 2>/dev/null; then wait "$server_pid" || true; fi
  if ((code != 0)); then
    printf '\nquickstart failed. The end of %s:\n' "$log_file" >&2
    tail -n 20 "$log_file" | sed 's/^/  /' >&2
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step "1/6 Installing what is missing (apt)"
scripts/setup.sh 2>&1 | tee -a "$log_file" | grep '^setup' || {
  log "the packages could not be installed"
  exit 1
}

step "2/6 Building (several minutes the first time)"
jobs=$(build_jobs)
{
  cmake --preset release
  cmake --build --preset release -j "$jobs" --target ebbinghaus-server ebbinghaus
} 2>&1 | tee -a "$log_file" | show_progress
server=build/release/bin/ebbinghaus-server
client=build/release/bin/ebbinghaus

step "3/6 Fetching the model '$name'"
model=$(scripts/fetch-model.sh "$name" 2> >(tee -a "$log_file" >&2) | tail -n 1)
printf '    %s\n' "$model"

step "4/6 Starting the server"
exec {ready_line}< <(exec "$server" --model "$model" --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 2>>"$log_file")
server_pid=$!
# The one line of the server's standard output, printed when it serves; the end of the file if it ends instead.
if ! read -r -t 600 -u "$ready_line" ready; then
  log "the server did not get ready"
  exit 1
fi
printf '    %s\n' "$ready"
target=$(sed -n 's/^ready grpc=\([^ ]*\) .*/\1/p' <<<"$ready")
[[ -n $target ]] || {
  log "the server's ready line is not what was expected"
  exit 1
}

step "5/6 \"$PROMPT\", streamed in each mode"
for mode in baseline soft_delete sparse_attention; do
  printf '\n[%s]\n' "$mode"
  "$client" generate --target "$target" --mode "$mode" --prompt "$PROMPT" --max-tokens 60 --temperature 0 \
    2> >(tee -a "$log_file" >&2)
done

step "6/6 The modes side by side"
cat <<'TEXT'
(With their defaults the modes forget nothing this early; the last row forgets fast, with the preset `tight`.)

TEXT
"$client" compare --target "$target" --prompt "$PROMPT" --max-tokens 100 --tight-tokens 400 \
  2> >(tee -a "$log_file" >&2)

cat <<TEXT

Done in $((SECONDS - started)) s. To go on:
  $server --model $model
  $client generate --prompt "Why do we forget?" --mode sparse_attention --preset chat --verbose
TEXT
