# nextest's JUnit report as lines `passed|failed|skipped TAB test TAB reason`.
function finish() { if (name != "") print state "\t" name "\t" reason; name = "" }
/<testcase / {
  finish()
  match($0, / name="[^"]*"/); name = substr($0, RSTART + 7, RLENGTH - 8)
  state = "passed"; reason = ""
}
/<(failure|error|flakyFailure)[ >]/ { state = "failed" }
# A test that says so and then fails has failed.
state == "passed" && match($0, /(^|[^a-z])skipped: .*/) {
  state = "skipped"
  reason = substr($0, RSTART, RLENGTH)
  sub(/^.*skipped: /, "", reason); sub(/<.*$/, "", reason)
}
END { finish() }
