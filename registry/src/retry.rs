//! When is it worth asking again?

use std::time::Duration;

use crate::config::Retry;
use crate::error::Result;

/// Repeats `attempt` while it fails with something transient.
pub(crate) async fn retry<T, F: Future<Output = Result<T>>>(policy: &Retry, attempt: impl Fn() -> F) -> Result<T> {
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(error) if error.is_transient() && failures + 1 < policy.attempts => {
                tokio::time::sleep(pause(policy, failures, error.retry_after())).await;
                failures += 1;
            }
            other => return other,
        }
    }
}

/// How long to wait after that many earlier failures. The server's wish is followed up to a limit.
pub(crate) fn pause(policy: &Retry, failures: u32, wish: Option<Duration>) -> Duration {
    let doubled = policy.first_pause.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    wish.unwrap_or(doubled).min(policy.longest_pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let policy = Retry::default();
        let seconds = |failures, wish: Option<u64>| pause(&policy, failures, wish.map(Duration::from_secs)).as_secs();
        assert_eq!([seconds(0, None), seconds(1, None), seconds(2, None), seconds(3, None)], [1, 2, 4, 8]);
        assert_eq!([seconds(40, None), seconds(0, Some(7)), seconds(0, Some(3600))], [60, 7, 60]);
    }
}
