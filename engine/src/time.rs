//! What time is it?

use jiff::Timestamp;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// The time as RFC 3339.
pub(crate) fn now_text() -> String {
    Timestamp::now().to_string()
}

/// The time that reproducible builds pretend it is, in seconds since 1970.
pub(crate) fn source_date_epoch() -> Option<i64> {
    std::env::var("SOURCE_DATE_EPOCH").ok()?.trim().parse().ok()
}

/// What `SOURCE_DATE_EPOCH` of the environment says if it is no number: something whose time is to be taken.
pub(crate) fn source_date_name() -> Option<String> {
    let text = std::env::var("SOURCE_DATE_EPOCH").ok()?;
    let text = text.trim();
    (!text.is_empty() && text.parse::<i64>().is_err()).then(|| text.to_owned())
}

/// Seconds since 1970 of an RFC 3339 time; 0 if it is none.
pub(crate) fn parse(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse::<Timestamp>().ok())
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .unwrap_or(0)
}
