#!/usr/bin/env bash
# Prints the Debian packages without which the given programs do not run, one per line; the image's build calls it
# where the programs were linked.
#
#   runtime-packages.sh PROGRAM...
set -euo pipefail

# Not a library that a program names, yet needed: without the first, libtorch computes with the slow reference BLAS;
# the second has the authorities that `ebbinghaus --tls-ca` may be given.
packages=(libopenblas0-pthread ca-certificates)

libraries=$(ldd "$@")
if missing=$(grep 'not found' <<<"$libraries"); then
  printf 'runtime-packages.sh: %s\n' "$missing" >&2
  exit 1
fi
# `libx.so.1 => /lib/libx.so.1 (0x...)`; dpkg knows the files behind links and alternatives.
mapfile -t files < <(sed -n 's|^[^/]*=> \(/[^ ]*\) .*|\1|p' <<<"$libraries" | xargs realpath -- | sort -u)
((${#files[@]} > 0)) || {
  printf 'runtime-packages.sh: no shared libraries in: %s\n' "$*" >&2
  exit 1
}
# Debian 12 has some of them on record in /lib, which is a link to /usr/lib. Fails when one belongs to no package.
owners=$(dpkg-query --search "${files[@]/#\/usr/*}")
while IFS=: read -r package _; do # `libx1:amd64: /usr/lib/libx.so.1`
  packages+=("$package")
done <<<"$owners"
printf '%s\n' "${packages[@]}" | sort -u
