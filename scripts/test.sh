#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests; the ctest summary is the last line.
#
#   scripts/test.sh [--all]     --all: also the sanitizer builds and the tests against other people's libraries
#
# A test that is skipped is listed with what it misses; with CI=true in the environment that is a failure.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

all=false
case "${1:-}" in
  '') ;;
  --all) all=true ;;
  *)
    log "usage: scripts/test.sh [--all]"
    exit 2
    ;;
esac

started=$SECONDS
step() { log "test: $* (after $((SECONDS - started)) s)"; }

if $all; then "$ROOT/scripts/setup.sh" --all; else "$ROOT/scripts/setup.sh"; fi

cd "$ROOT"
jobs=$(build_jobs)
step "building with $jobs jobs"
# The log keeps what the quiet terminal does not show.
mkdir -p build
if ! { cmake --preset release && cmake --build --preset release -j "$jobs"; } >build/test-build.log 2>&1; then
  grep -E -A5 'error|FAILED' build/test-build.log | head -n 60 >&2 || true
  die "the build failed; the whole log is build/test-build.log"
fi

step "fetching the default model, which some tests read"
EBBINGHAUS_DEFAULT_MODEL=$("$ROOT/scripts/fetch-model.sh" default | tail -n 1)
export EBBINGHAUS_DEFAULT_MODEL

step "running the tests"
arguments=(--test-dir build/release --output-on-failure --output-junit "$ROOT/build/test-results.xml" -j 2)
$all || arguments+=(--label-exclude '^all$')
code=0
rm -f build/test-results.xml
ctest "${arguments[@]}" 2>&1 | tee build/test-output.log || code=$?

# Lines `name: reason` of the tests that did not run.
skipped=$(
  python3 - build/test-results.xml <<'PYTHON'
import sys, xml.etree.ElementTree as tree

for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
    if case.get("status") == "run" or case.find("failure") is not None:
        continue
    said = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    reasons = [line for line in said if "skip" in line.lower() or "missing" in line.lower()] or said[-1:]
    print("  %s: %s" % (case.get("name"), reasons[0] if reasons else case.get("status")))
PYTHON
) || code=1
summary=$(grep -E '^[0-9]+% tests passed' build/test-output.log | tail -n 1) || true
[[ -n $summary ]] || summary="no tests ran"
step "done"
if [[ -n $skipped ]]; then
  printf '\nSkipped:\n%s\n' "$skipped"
  if [[ ${CI:-} == true ]]; then
    printf 'With CI=true a skipped test is a failure.\n'
    code=1
  fi
fi
[[ $summary == *passed* ]] || code=1
printf '%s\n' "$summary"
exit "$code"
