#!/usr/bin/env bash
# Install the Python SDK, at the version the engine follows, into a virtual environment
# below .cache/oracle, and print its interpreter. Needs Python 3 with venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

sdk=optimizely-sdk==5.7.0

into=$PWD/.cache/oracle/venv
# Written last, so that half an installation is not taken for one.
stamp=$into/installed
if [[ ! -f $stamp || $(cat "$stamp") != "$sdk" ]]; then
  {
    rm -rf "$into"
    python3 -m venv "$into"
    "$into/bin/pip" install --quiet --disable-pip-version-check "$sdk"
  } >&2
  echo "$sdk" > "$stamp"
fi
echo "$into/bin/python"
