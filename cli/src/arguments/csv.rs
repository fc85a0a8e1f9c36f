//! Which fields does a flag such as `type=local,dest=out` have?
//!
//! Docker reads these flags as one record of comma-separated values: a field that starts with a double quote may contain
//! commas, and two double quotes within it mean one.

/// Cuts a record into its fields.
///
/// # Errors
/// What is wrong with the quotes.
pub fn fields(record: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err(format!("a quote in the middle of the field `{field}`"));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The fields as names and values. Names are lower-cased; a field without `=` has no value.
///
/// # Errors
/// As [`fields`].
pub fn pairs(record: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let split = |field: &String| match field.split_once('=') {
        Some((name, value)) => (name.trim().to_ascii_lowercase(), Some(value.to_owned())),
        None => (field.trim().to_ascii_lowercase(), None),
    };
    Ok(fields(record)?.iter().map(split).collect())
}

/// The field before its closing quote, and what follows the quote.
fn unquote(quoted: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote that is not closed")?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err("text between a closing quote and the next comma".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_at_commas_outside_quotes() {
        let cases: [(&str, Option<&[&str]>); 10] = [
            ("", Some(&[""])),
            ("a", Some(&["a"])),
            ("a,b", Some(&["a", "b"])),
            ("a,", Some(&["a", ""])),
            (r#"type=image,"name=a,b",push=true"#, Some(&["type=image", "name=a,b", "push=true"])),
            (r#""a""b""#, Some(&["a\"b"])),
            (r#""""#, Some(&[""])),
            (r#"a"b"#, None),
            (r#""a"b"#, None),
            (r#""a"#, None),
        ];
        for (record, expected) in cases {
            let found = fields(record).ok();
            let found: Option<Vec<&str>> = found.as_ref().map(|fields| fields.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), expected, "{record}");
        }
    }
}
