#!/bin/sh
# install.sh FILE PACKAGE@VERSION: build a pinned Go tool into FILE.
set -eu
file=$1 package=$2
mkdir -p "$(dirname "$file")"
dir=$(mktemp -d "$(dirname "$file")/build.XXXXXX")
trap 'rm -rf "$dir"' EXIT
echo "installing $package"
GOBIN=$dir go install "$package"
mv "$dir"/* "$file"
