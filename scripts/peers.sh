#!/usr/bin/env bash
# Measures Ebbinghaus beside OpenVINO GenAI and llama.cpp on this machine, on the same random weights in the shape of
# Qwen2.5-0.5B, in interleaved rounds, and prints what each does and the ratio to the faster of the two.
#
#   scripts/peers.sh [--json FILE] [--long-contexts] [--quick] [--install-only] [--without PEER] [-- ARGUMENT...]
#
#   --long-contexts   also one stream at 16,384 and 32,000 tokens: the peers read such a prompt for many minutes
#   --quick           a few cases in three rounds, to see that it works
#   --install-only    install the peers and write the models, measure nothing
#   --without PEER    openvino or llama.cpp
#   ARGUMENT...       for tests/bench/peers/compare.py, which lists them with --help
#
# The first run builds llama.cpp for this processor, some 10 to 20 minutes. Everything lies in build/peers (about 5 GB with
# the models). Let nothing else run meanwhile.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

peers=(openvino llama.cpp)
arguments=()
install_only=false
while (($# > 0)); do
  case "$1" in
    --json)
      (($# > 1)) || die "--json needs a file"
      arguments+=(--json "$(realpath -m -- "$2")")
      shift
      ;;
    --long-contexts) arguments+=(--long-contexts) ;;
    --quick) arguments+=(--types q8_0 --decode '1x64,4x64' --prefill 512 --evict none --rounds 3) ;;
    --install-only) install_only=true ;;
    --without)
      case "${2:-}" in
        openvino) peers=(llama.cpp) ;;
        llama.cpp) peers=(openvino) ;;
        *) die "--without needs openvino or llama.cpp" ;;
      esac
      shift
      ;;
    --)
      shift
      arguments+=("$@")
      break
      ;;
    *)
      sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
  shift
done

sources=$ROOT/tests/bench/peers
folder=$ROOT/build/peers
python=$folder/venv/bin/python
mkdir -p "$folder"

"$ROOT/scripts/setup.sh"

# The peers wanted, in the versions pinned. A stamp tells what is there.
install_peers() {
  local wanted stamp=$folder/venv/installed
  wanted=$(sha256sum "$sources"/*requirements.txt | cut -d' ' -f1; printf '%s\n' "${peers[@]}")
  if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then return; fi
  log "peers: installing ${peers[*]} (the log is $folder/install.log)"
  [[ -x $python ]] || python3 -m venv "$folder/venv"
  local requirements=$folder/requirements.txt
  cp "$sources/requirements.txt" "$requirements"
  if [[ ${peers[*]} != *llama* ]]; then sed -i '/llama-cpp-python/d' "$requirements"; fi
  if [[ ${peers[*]} != *openvino* ]]; then sed -i '/openvino/d' "$requirements"; fi
  # --no-build-isolation, or the tools of the build would be whatever is newest.
  if ! {
    "$python" -m pip install -r "$sources/build-requirements.txt" &&
      CMAKE_ARGS='-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF' CMAKE_BUILD_PARALLEL_LEVEL=$(build_jobs) \
        nice "$python" -m pip -v install --no-deps --no-build-isolation -r "$requirements"
  } >"$folder/install.log" 2>&1; then
    tail -n 20 "$folder/install.log" >&2
    die "a peer cannot be installed"
  fi
  printf '%s\n' "$wanted" >"$stamp"
}

# write_model TYPE [EMBEDDING_TYPE]
write_model() {
  local path=$folder/qwen-$1.gguf
  [[ ! -f $path || $sources/random_gguf.py -nt $path ]] || return 0
  log "peers: writing $path"
  "$python" "$sources/random_gguf.py" "$path.new" "$@"
  mv -- "$path.new" "$path"
}

install_peers
write_model q8_0
write_model q4_0 q8_0 # as llama.cpp quantizes a model of this size
write_model bf16

cd "$ROOT"
log "peers: building ebbinghaus-bench"
if ! { cmake --preset release && cmake --build --preset release -j "$(build_jobs)" --target ebbinghaus-bench; } \
  >"$folder/build.log" 2>&1; then
  tail -n 20 "$folder/build.log" >&2
  die "the build failed; the whole log is $folder/build.log"
fi
if $install_only; then exit 0; fi

printf 'load average %s, %s\n' "$(cut -d' ' -f1 /proc/loadavg)" \
  "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
PYTHONDONTWRITEBYTECODE=1 exec python3 "$sources/compare.py" --bench "$ROOT/build/release/bin/ebbinghaus-bench" \
  --folder "$folder" --peers "$(IFS=,; printf '%s' "${peers[*]}")" "${arguments[@]}"
