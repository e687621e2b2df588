#!/usr/bin/env bash
# Fill the Flux template for one run of the workflow and push the files to the releases repository.
#
# They are pushed, not proposed: a workflow of that repository closes every pull request that touches these folders. Flux
# pushes there as well, so that a push can come too late; then the files are made again on what is there by then.
set -euo pipefail
: "${GH_TOKEN:?}" "${RELEASES:?}" "${EVENT:?}" "${LABEL:?}" "${TAG:?}" "${REGISTRY:?}" "${REPOSITORY:?}" "${SOURCE:?}" "${COMMIT:?}"

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

# The token goes through a helper, which expands it when git asks: it is in no address, no file and no log.
# shellcheck disable=SC2016
ask=(-c credential.helper= -c credential.helper='!f() { echo username=x-access-token; echo "password=$GH_TOKEN"; }; f')

git "${ask[@]}" clone --quiet --depth 1 "$RELEASES" "$folder"
branch="$(git -C "$folder" branch --show-current)"
for attempt in 1 2 3 4 5; do
  python3 "$here/fill.py" "$folder"
  git -C "$folder" add --all
  if git -C "$folder" diff --cached --quiet; then
    echo "Nothing changes."
    exit 0
  fi
  git -C "$folder" -c user.name=worker-ci -c user.email=worker-ci@users.noreply.github.com \
    commit --quiet --message "worker: $TAG" --message "From $SOURCE at $COMMIT."
  if git "${ask[@]}" -C "$folder" push --quiet origin "HEAD:refs/heads/$branch"; then
    git -C "$folder" show --stat --format= HEAD
    exit 0
  fi
  echo "Somebody else pushed first (attempt $attempt)." >&2
  git "${ask[@]}" -C "$folder" fetch --quiet --depth 1 origin "$branch"
  git -C "$folder" reset --quiet --hard FETCH_HEAD
done
exit 1
