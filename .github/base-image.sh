#!/usr/bin/env bash
# Print `python=NAME@DIGEST` for the image's build: the base image that the Dockerfile names, by the digest that somebody has
# looked at (PINNED, the repository's variable PYTHON_IMAGE_DIGEST).
#
# With STRICT=true, which is everything but a pull request, a missing digest ends the build. A pull request's image is not
# published: without a digest it takes the one that the registry has now, and says which.
set -euo pipefail
name=$(sed -n 's/^ARG PYTHON=//p' Dockerfile)
now=$(docker buildx imagetools inspect "docker.io/library/python:$name" --format '{{.Manifest.Digest}}')
digest=${PINNED:-}
if [ -z "$digest" ]; then
  if [ "${STRICT:-true}" = true ]; then
    echo "::error::set the repository's variable PYTHON_IMAGE_DIGEST; python:$name is $now today" >&2
    exit 1
  fi
  digest=$now
fi
if ! [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]]; then
  echo "::error::PYTHON_IMAGE_DIGEST: expected sha256: and 64 hexadecimal digits, found '$digest'" >&2
  exit 1
fi
if [ "$digest" != "$now" ]; then
  echo "::notice::python:$name has moved on to $now: look at it, and set PYTHON_IMAGE_DIGEST" >&2
fi
echo "python=$name@$digest"
