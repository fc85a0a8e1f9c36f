//! What does `--format '{{.Config.Env}}'` print?
//!
//! The part of Go's templates that people write on command lines: paths, and a function applied to paths and literals.
//! `if`, `range`, pipes and variables are refused by name; `--format json` and `jq` do what they do.

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Action(Function, Vec<Operand>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Function {
    Print,
    Println,
    Json,
    Index,
    Len,
    Join,
    Lower,
    Upper,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<String>),
    Literal(Value),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or("the template has a `{{` without `}}`")?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(parse_action(action.trim())?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Prints what the template says of a value.
    pub fn render(&self, root: &Value) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Action(function, operands) => {
                let values: Vec<&Value> = operands.iter().map(|operand| operand.value(root)).collect();
                apply(*function, &values)
            }
        };
        self.0.iter().map(part).collect()
    }
}

fn parse_action(action: &str) -> Result<Part, String> {
    let words = words(action)?;
    let (function, operands) = match words.first().map(String::as_str) {
        None => return Err("the template has an empty action".to_owned()),
        Some(word) if is_operand(word) => (Function::Print, words.as_slice()),
        Some(word) => (function(word)?, &words[1..]),
    };
    let operands: Vec<Operand> = operands.iter().map(|word| operand(word)).collect::<Result<_, _>>()?;
    let (least, most) = match function {
        Function::Index => (1, usize::MAX),
        Function::Join => (2, 2),
        Function::Print | Function::Json | Function::Len | Function::Lower | Function::Upper => (1, 1),
        Function::Println => (0, usize::MAX),
    };
    if operands.len() < least || operands.len() > most {
        return Err(format!("`{action}` has {} operands", operands.len()));
    }
    Ok(Part::Action(function, operands))
}

fn function(word: &str) -> Result<Function, String> {
    Ok(match word {
        "print" => Function::Print,
        "println" => Function::Println,
        "json" => Function::Json,
        "index" => Function::Index,
        "len" => Function::Len,
        "join" => Function::Join,
        "lower" => Function::Lower,
        "upper" => Function::Upper,
        _ => return Err(format!("not supported: `{word}` in a template")),
    })
}

/// The words of an action; a string literal is one, quotes included.
fn words(action: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"') {
            Some(literal) => literal.find('"').ok_or("the template has a quote that is not closed")? + 2,
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

fn is_operand(word: &str) -> bool {
    word.starts_with(['.', '"']) || word.parse::<u64>().is_ok()
}

fn operand(word: &str) -> Result<Operand, String> {
    if let Some(path) = word.strip_prefix('.') {
        let names = path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        return Ok(Operand::Path(names));
    }
    if let Some(text) = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Ok(Operand::Literal(text.into()));
    }
    match word.parse::<u64>() {
        Ok(number) => Ok(Operand::Literal(number.into())),
        Err(_) => Err(format!("not supported: `{word}` in a template")),
    }
}

impl Operand {
    fn value<'a>(&'a self, root: &'a Value) -> &'a Value {
        match self {
            Self::Path(names) => names.iter().fold(root, |value, name| value.get(name).unwrap_or(&Value::Null)),
            Self::Literal(value) => value,
        }
    }
}

fn apply(function: Function, values: &[&Value]) -> String {
    let first = values.first().copied().unwrap_or(&Value::Null);
    match function {
        Function::Print => show(first),
        Function::Println => values.iter().map(|value| show(value)).collect::<Vec<_>>().join(" ") + "\n",
        Function::Json => first.to_string(),
        Function::Index => show(values[1..].iter().fold(first, |value, key| at(value, key))),
        Function::Len => match first {
            Value::Array(items) => items.len().to_string(),
            Value::Object(fields) => fields.len().to_string(),
            other => show(other).len().to_string(),
        },
        Function::Join => match first {
            Value::Array(items) => items.iter().map(show).collect::<Vec<_>>().join(&show(values[1])),
            other => show(other),
        },
        Function::Lower => show(first).to_lowercase(),
        Function::Upper => show(first).to_uppercase(),
    }
}

fn at<'a>(value: &'a Value, key: &Value) -> &'a Value {
    let found = match key {
        Value::String(name) => value.get(name),
        key => key.as_u64().and_then(|index| value.get(usize::try_from(index).ok()?)),
    };
    found.unwrap_or(&Value::Null)
}

/// A value as Go prints it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{}", show(value))).collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_print_what_go_prints() {
        let value = json!({
            "Id": "sha256:ab", "Config": {"Env": ["A=1", "B=2"], "Cmd": null, "Labels": {"b": "2", "a": "1"}},
            "Ports": {"80/tcp": [{"HostPort": "8080"}]}, "Size": 12, "Running": true,
        });
        for (template, expected) in [
            ("{{.Id}}", "sha256:ab"),
            ("id {{ .Id }}, {{.Size}} bytes", "id sha256:ab, 12 bytes"),
            ("{{.Config.Env}}", "[A=1 B=2]"),
            ("{{.Config.Labels}}", "map[a:1 b:2]"),
            ("{{.Config.Labels.a}}", "1"),
            ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
            ("{{json .Config.Cmd}}", "null"),
            ("{{.Nothing.There}}", "<no value>"),
            (r#"{{index .Ports "80/tcp" 0}}"#, "map[HostPort:8080]"),
            (r#"{{index .Config.Env 1}}"#, "B=2"),
            (r#"{{join .Config.Env ", "}}"#, "A=1, B=2"),
            ("{{len .Config.Env}}", "2"),
            ("{{.Running}}", "true"),
            ("{{upper .Id}}", "SHA256:AB"),
            ("{{println .Size .Id}}", "12 sha256:ab\n"),
            ("plain", "plain"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&value), expected, "{template}");
        }
        for template in
            ["{{", "{{}}", "{{range .X}}", "{{.Id | json}}", "{{if .X}}", "{{json}}", "{{join .X}}", "{{$x}}"]
        {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
