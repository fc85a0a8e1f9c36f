# Of `cargo test -- --show-output`, everything but what tests that passed have printed.
/^successes:$/ { hidden = 1 }
/^(failures:|test result: .*)$/ { hidden = 0 }
!hidden { print; fflush() }
