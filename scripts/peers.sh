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
# The first run builds llama.cpp for this processor, some ten minutes. Everything lies in build/peers (about 4 GB with the
# models). Let nothing else run meanwhile.
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

# run_logged LOG WHAT COMMAND...: quietly, unless it fails.
run_logged() {
  local log=$folder/$1 what=$2
  shift 2
  log "peers: $what (the log is $log)"
  if ! "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "$what failed"
  fi
}

install_packages() {
  local pinned=$sources/requirements.txt stamp=$folder/packages-installed
  ! cmp -s -- "$pinned" "$stamp" || return 0 # it is there
  [[ -x $python ]] || python3 -m venv "$folder/venv"
  run_logged install.log "installing OpenVINO GenAI" "$python" -m pip install --no-deps -r "$pinned"
  cp -- "$pinned" "$stamp"
}

# Only the library, which is half of what the package's own build makes, and in a folder that stays, so that a build that
# was cut short goes on.
build_llama() {
  local pinned=$sources/llama-requirements.txt stamp=$folder/llama-installed source=$folder/llama-source
  ! cmp -s -- "$pinned" "$stamp" || return 0 # it is there
  rm -rf -- "$folder/llama-download"
  run_logged download.log "fetching llama.cpp" "$python" -m pip download --no-deps --no-build-isolation \
    --no-binary llama-cpp-python --require-hashes -r "$pinned" -d "$folder/llama-download"
  mkdir -p "$source"
  tar -xzf "$folder"/llama-download/*.tar.gz -C "$source" --strip-components 1 --keep-newer-files
  run_logged llama-configure.log "configuring llama.cpp" cmake -G Ninja -S "$source/vendor/llama.cpp" -B "$folder/llama" \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_COMMON=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF
  run_logged llama-build.log "building llama.cpp, some ten minutes" \
    nice cmake --build "$folder/llama" -j "$(build_jobs)" --target llama
  cp -- "$pinned" "$stamp"
}

# write_model TYPE [EMBEDDING_TYPE]
write_model() {
  local path=$folder/qwen-$1.gguf
  [[ ! -f $path || $sources/random_gguf.py -nt $path ]] || return 0
  log "peers: writing $path"
  "$python" "$sources/random_gguf.py" "$path.new" "$@"
  mv -- "$path.new" "$path"
}

install_packages
if [[ ${peers[*]} == *llama* ]]; then build_llama; fi
write_model q8_0
write_model q4_0 q8_0 # as llama.cpp quantizes a model of this size
write_model bf16

cd "$ROOT"
run_logged configure.log "configuring Ebbinghaus" cmake --preset release
run_logged build.log "building ebbinghaus-bench" cmake --build --preset release -j "$(build_jobs)" --target ebbinghaus-bench
if $install_only; then exit 0; fi

printf 'load average %s, %s\n' "$(cut -d' ' -f1 /proc/loadavg)" \
  "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$folder/llama-source LLAMA_CPP_LIB_PATH=$folder/llama/bin
exec python3 "$sources/compare.py" --bench "$ROOT/build/release/bin/ebbinghaus-bench" \
  --folder "$folder" --peers "$(IFS=,; printf '%s' "${peers[*]}")" "${arguments[@]}"
