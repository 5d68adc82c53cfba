#!/usr/bin/env bash
# Install the official SDKs, at the versions the test is for, into .cache/foreign,
# and print that folder: export SORTITION_FOREIGN="$(internal/emulator/foreign/install.sh)"
# Needs Python 3 with venv, and Node.js with npm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

python_sdk=optimizely-sdk==5.7.0
node_sdk=@optimizely/optimizely-sdk@6.6.1

into=$PWD/.cache/foreign
# Written last, so that half an installation is not taken for one.
stamp=$into/installed
want="$python_sdk $node_sdk"
if [[ ! -f $stamp || $(cat "$stamp") != "$want" ]]; then
  {
    rm -rf "$into"
    mkdir -p "$into/node"
    python3 -m venv "$into/python"
    "$into/python/bin/pip" install --quiet --disable-pip-version-check "$python_sdk"
    echo '{"private": true}' > "$into/node/package.json"
    npm install --prefix "$into/node" --silent --no-audit --no-fund "$node_sdk"
  } >&2
  echo "$want" > "$stamp"
fi
echo "$into"
