#!/usr/bin/env bash
# Fetches a model into the volume /models and lets /models/current lead to it, where the server's image looks for one.
#
#   fetch.sh [MODEL]     MODEL as for scripts/fetch-model.sh, which lists the environment variables
#
# What is there already is checked and not fetched again. Writes nowhere but in the volume. Another folder for tests:
# EBBINGHAUS_MODELS.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fetch=$here/scripts/fetch-model.sh
models=${EBBINGHAUS_MODELS:-/models}

[[ -w $models ]] || {
  printf 'fetch.sh: user %s cannot write in %s; the volume has to belong to that user or its group\n' \
    "$(id -u):$(id -g)" "$models" >&2
  exit 1
}
export HOME=$models XDG_CACHE_HOME=$models/cache TMPDIR=$models/cache/tmp
export HF_HOME=$XDG_CACHE_HOME/huggingface
mkdir -p "$TMPDIR"
path=$("$fetch" "$@" | tail -n 1)

# A link to a folder, and links that go up from where they are, so that the volume may be mounted elsewhere. The server
# names a GGUF file's model after the file, so that file keeps its name: it gets a folder of its own.
target=${path#"$models/"}
if [[ -f $path ]]; then
  folder=$models/cache/current/$(basename "$path" .gguf)
  mkdir -p "$folder"
  ln -sfn "../../../$target" "$folder/$(basename "$path")"
  target=${folder#"$models/"}
fi
# In one step: a server that starts meanwhile finds the old model or the new one.
ln -sfn "$target" "$models/.current.new"
mv -fT "$models/.current.new" "$models/current"
printf '%s\n' "$models/current"
