# The output of `cargo test -- --show-output` as lines `passed|failed|skipped TAB test TAB reason`.
/^test .* \.\.\. (ok|FAILED)$/ {
  state = ($NF == "ok") ? "passed" : "failed"
  name = $2; states[++count] = state; names[count] = name; last[name] = count
}
/^---- .* stdout ----$/ { shown = $2 }
/^skipped: / && shown in last && states[last[shown]] == "passed" {
  states[last[shown]] = "skipped"
  reasons[last[shown]] = substr($0, length("skipped: ") + 1)
}
END { for (i = 1; i <= count; i++) print states[i] "\t" names[i] "\t" reasons[i] }
