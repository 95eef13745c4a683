#!/usr/bin/env bash
# Feeds made-up input to everything that reads bytes from outside, with libFuzzer and Clang's sanitizers: tests/fuzz/README.md.
#
#   scripts/fuzz.sh [--minutes N | --seconds N | --runs N] [--harness NAME]... [--jobs N]     default: 3 minutes each, 1 job
#
# Builds what is missing, replays what was found before, then goes on from the corpus that earlier runs left in
# build/fuzz/corpus. Prints a table; exit code 1 where a harness found something, which then lies in build/fuzz/findings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

limit=(-max_total_time=180)
jobs=1
harnesses=()
while (($# > 0)); do
  case "$1 ${2:-}" in
    '--minutes '[0-9]*) limit=(-max_total_time=$(($2 * 60))) ;;
    '--seconds '[0-9]*) limit=(-max_total_time="$2") ;;
    '--runs '[0-9]*) limit=(-runs="$2") ;;
    '--jobs '[1-9]*) jobs=$2 ;;
    '--harness '[a-z]*) harnesses+=("$2") ;;
    *)
      sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
  shift 2
done

cd "$ROOT"
readonly FUZZ=build/fuzz
mkdir -p $FUZZ
if ((${#harnesses[@]} == 0)); then
  mapfile -t harnesses < <(for source in tests/fuzz/*_fuzz.cc; do basename "$source" _fuzz.cc; done)
fi
if ! { cmake --preset fuzz && cmake --build --preset fuzz -j "$(build_jobs)" --target "${harnesses[@]/#/fuzz_}"; } \
  >$FUZZ/build.log 2>&1; then
  grep -E -A5 'error|FAILED' $FUZZ/build.log | head -n 40 >&2 || true
  die "the build failed; the whole log is $FUZZ/build.log"
fi
mkdir -p $FUZZ/findings $FUZZ/logs
PYTHONDONTWRITEBYTECODE=1 python3 tests/fuzz/seeds.py $FUZZ/seeds
ASAN_SYMBOLIZER_PATH=$(command -v llvm-symbolizer || true)
export ASAN_SYMBOLIZER_PATH

# Longest input in bytes, seconds that one may take, and MiB that one allocation may take. Sanitizers make everything some
# ten times slower than it is.
limits() {
  case $1 in
    tokenizer_json) echo 8192 20 64 ;;
    gguf | folder) echo 8192 20 64 ;;
    jinja) echo 1024 60 256 ;;
    *) echo 4096 10 64 ;;
  esac
}

run_harness() {
  local name=$1 max_len timeout megabytes dictionary regressions=tests/fuzz/regressions/$1
  read -r max_len timeout megabytes < <(limits "$name")
  local options=(-timeout="$timeout" -malloc_limit_mb="$megabytes" -rss_limit_mb=1024 -artifact_prefix="$FUZZ/findings/$name-")
  dictionary=tests/fuzz/dictionaries/$name.dict
  [[ ! -f $dictionary ]] || options+=(-dict="$dictionary")
  mkdir -p "$FUZZ/corpus/$name"
  {
    # Those found before are run once each by name: as part of a corpus, the first that fails would hide the others.
    if [[ ! -d $regressions ]] || "$FUZZ/bin/fuzz_$name" "${options[@]}" "$regressions"/*; then
      "$FUZZ/bin/fuzz_$name" "${options[@]}" "${limit[@]}" -max_len="$max_len" -print_final_stats=1 \
        "$FUZZ/corpus/$name" "$FUZZ/seeds/$name"
    fi
  } >"$FUZZ/logs/$name.log" 2>&1
}

failed=()
for name in "${harnesses[@]}"; do
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
  { if run_harness "$name"; then echo clean; else echo found; fi >"$FUZZ/logs/$name.result"; } &
done
wait

printf '%-20s %12s %9s %9s %8s  %s\n' harness executions per-s coverage corpus finding
for name in "${harnesses[@]}"; do
  log=$FUZZ/logs/$name.log
  # The status lines read: #N EVENT cov: N ft: N corp: N/B ... exec/s: N
  read -r executions rate coverage < <(
    sed -nE 's/^#([0-9]+).* cov: ([0-9]+) .*exec\/s: ([0-9]+).*/\1 \3 \2/p' "$log" | tail -n 1
    echo 0 0 0
  ) || true
  finding=-
  if [[ $(<"$FUZZ/logs/$name.result") == found ]]; then
    failed+=("$name")
    finding=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    finding=${finding:-see $log}
  fi
  printf '%-20s %12s %9s %9s %8s  %s\n' "$name" "$executions" "$rate" "$coverage" \
    "$(find "$FUZZ/corpus/$name" -type f | wc -l)" "$finding"
done
if ((${#failed[@]} > 0)); then
  for name in "${failed[@]}"; do
    log ""
    log "--- $name"
    grep -m 1 -A 25 -E 'ERROR: |runtime error|broken invariant|Assertion' "$FUZZ/logs/$name.log" >&2 || tail -n 25 "$FUZZ/logs/$name.log" >&2
  done
  die "found something in: ${failed[*]}"
fi
