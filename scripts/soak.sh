#!/usr/bin/env bash
# Calls a server with a tiny model in every good and bad way and looks at what it has kept: the long form of a test that
# scripts/test.sh runs too. At most half an hour.
#
#   scripts/soak.sh [--calls N] [--resets N] [--seed N] [--minutes N]     default: 10,000 calls and as many stream resets
#
# Builds what is missing. Prints calls by kind and status; exit code 1 where something is wrong.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  '' | --calls | --resets | --seed | --minutes) ;;
  *)
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

"$ROOT/scripts/setup.sh"
cd "$ROOT"
mkdir -p build
if ! { cmake --preset release && cmake --build --preset release -j "$(build_jobs)" --target ebbinghaus-server ebbinghaus; } \
  >build/soak-build.log 2>&1; then
  die "the build failed; the log is build/soak-build.log"
fi
# The last of a flag that is given twice counts.
exec "$ROOT/tests/integration/python.sh" "$ROOT/tests/soak/soak.py" "$ROOT/build/release/bin/ebbinghaus-server" \
  --calls 10000 "$@"
