#!/usr/bin/env bash
# newcomer.sh [ACTIVITIES]: do what somebody does who has never seen the repository:
# clone it into an empty folder and say `make run`. Its account must say that all
# ACTIVITIES (20000) were made and consumed, and that it adds up.
#
# The clone is of what is committed. Its environment has a home of its own, and a PATH
# with go and make only; the caches of Go are lent to it, or it would take minutes.
set -euo pipefail

activities=${1:-20000}
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
place=$(mktemp -d "${TMPDIR:-/tmp}/newcomer.XXXXXX")
trap 'rm -rf "$place"' EXIT
mkdir "$place/bin" "$place/home"
ln -s "$(command -v go)" "$(command -v make)" "$place/bin/"
git clone --quiet "$root" "$place/clone"
echo "a clone of $(git -C "$place/clone" log -1 --format='%h, %s')"

lent=()
for name in GOMODCACHE GOCACHE GOFLAGS GOPROXY GOSUMDB GOTOOLCHAIN; do
  lent+=("$name=$(go env "$name")")
done
account=$place/account
cd "$place/clone"
status=0
env -i "HOME=$place/home" "PATH=$place/bin" "TMPDIR=$place" "${lent[@]}" make run ACTIVITIES="$activities" >"$account" 2>"$place/errors" </dev/null || status=$?
cat "$account"
fail() {
  echo "newcomer: $*" >&2
  cat "$place/errors" >&2
  exit 1
}
((status == 0)) || fail "make run ended with exit code $status"
for row in 'activities made' 'activities consumed'; do
  found=$(sed -n "s/^ *$row  *\([0-9,]*\).*/\1/p" "$account" | tr -d ,)
  [[ $found == "$activities" ]] || fail "\"$row\" is \"$found\" instead of $activities"
done
grep -q 'it adds up' "$account" || fail "the account does not say that it adds up"
[[ -z $(git status --porcelain) ]] || fail "it leaves files that git does not know: $(git status --porcelain)"
