#!/usr/bin/env bash
# Loads the server with many clients, on random weights in the shape of Qwen2.5-0.5B, and prints what is asked of it beside
# what was measured: some ten minutes. Let nothing else run meanwhile.
#
#   scripts/load.sh [--json FILE] [--only NAME,...] [--seconds N]
#
#   --only      throughput, arrival, overload, prefix, fairness
#   --seconds   length of each load; default 60
#
# Builds what is missing. The model (1 GB) lies in build/load.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

arguments=()
while (($# > 0)); do
  case "$1" in
    --json)
      (($# > 1)) || die "--json needs a file"
      arguments+=(--json "$(realpath -m -- "$2")")
      ;;
    --only | --seconds)
      (($# > 1)) || die "$1 needs a value"
      arguments+=("$1" "$2")
      ;;
    *)
      sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
  shift 2
done

"$ROOT/scripts/setup.sh"
folder=$ROOT/build/load
model=$folder/qwen2.5-0.5b-shape.gguf
mkdir -p "$folder"
cd "$ROOT"
if ! { cmake --preset release && cmake --build --preset release -j "$(build_jobs)" \
  --target ebbinghaus-server ebbinghaus ebbinghaus-bench; } >"$folder/build.log" 2>&1; then
  die "the build failed; the log is build/load/build.log"
fi
if [[ ! -e $model ]]; then
  log "load: writing the model"
  numpy=$(grep '^numpy==' "$ROOT/tests/bench/peers/requirements.txt")
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$numpy"
  "$folder/venv/bin/python" "$ROOT/tests/bench/peers/random_gguf.py" "$model.part" bf16
  mv "$model.part" "$model"
fi
exec "$ROOT/tests/integration/python.sh" "$ROOT/tests/bench/load.py" "$ROOT/build/release/bin" --model "$model" \
  "${arguments[@]}"
