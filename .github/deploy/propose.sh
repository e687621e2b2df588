#!/usr/bin/env bash
# Fill the Flux template for one environment and open a pull request with it in the releases repository.
set -euo pipefail
: "${GH_TOKEN:?}" "${OWNER:?}" "${ENVIRONMENT:?}" "${TAG:?}" "${REGISTRY:?}" "${REPOSITORY:?}" "${ACCOUNT_ID:?}" "${SOURCE:?}" "${COMMIT:?}"

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="$(mktemp -d)"
branch="worker-$ENVIRONMENT-${TAG//[^A-Za-z0-9_.-]/-}"

# The token goes through a helper, which expands it when git asks: it is in no address, no file and no log.
# shellcheck disable=SC2016
git -c credential.helper='!f() { echo username=x-access-token; echo "password=$GH_TOKEN"; }; f' \
  clone --depth 1 "https://github.com/$OWNER/releases.git" "$folder"
python3 "$here/fill.py" > "$folder/$ENVIRONMENT/worker.yaml"

cd "$folder"
if [ -z "$(git status --porcelain)" ]; then
  echo "Nothing changes."
  exit 0
fi
git switch --create "$branch"
git add --all
git -c user.name=worker-ci -c user.email=worker-ci@users.noreply.github.com commit --message "worker: $TAG in $ENVIRONMENT"
# shellcheck disable=SC2016
git -c credential.helper='!f() { echo username=x-access-token; echo "password=$GH_TOKEN"; }; f' push origin "$branch"
gh pr create --repo "$OWNER/releases" --head "$branch" --title "worker: $TAG in $ENVIRONMENT" \
  --body "Deploys the worker of $SOURCE at $COMMIT."
