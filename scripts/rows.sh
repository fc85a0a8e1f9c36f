#!/usr/bin/env bash
# Lists the rows of docs/language.md that no test names, and succeeds if there are none.
#
# A test names a row by its function (`fn a045_…`, several as `fn a045_a046_…`, in a macro `a045_…: "…"`), by a string
# in a table ("A045 …"), or, as a conformance case, by its `rows`.
. "$(dirname "$0")/common.sh"
cd "$top"
named() {
  git ls-files -z -- '*.rs' | xargs -0 grep -hoE '(\bfn (\w*_)?a[0-9]{3}(_\w*)?\(|^ *a[0-9]{3}_\w+: ")|"A[0-9]{3}\b' | grep -oE '[aA][0-9]{3}' | tr a A
  git ls-files -z -- 'testdata/conformance/*.json' | xargs -0 grep -hoE '"rows": *\[[^]]*\]' | grep -oE 'A[0-9]{3}'
}
missing=$(comm -23 <(grep -oE '^\| A[0-9]{3}' docs/language.md | tr -d '| ' | sort -u) <(named | sort -u))
[ -n "$missing" ] || exit 0
while read -r id; do grep "^| $id " docs/language.md; done <<<"$missing"
printf '%d rows without a test\n' "$(wc -l <<<"$missing")"
exit 1
