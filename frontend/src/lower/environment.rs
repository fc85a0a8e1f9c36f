//! Which variables are there, and in which order?

use std::collections::HashMap;

/// Names and values. Setting a variable again leaves it in its place, as image configurations have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pairs: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Environment {
    /// From `NAME=value` texts; of several with one name the last counts.
    pub(super) fn from_config(texts: &[String]) -> Self {
        let mut environment = Self::default();
        for text in texts {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            environment.set(name, value);
        }
        environment
    }

    pub(super) fn to_config(&self) -> Vec<String> {
        self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        if let Some(place) = self.places.get(name) {
            self.pairs[*place].1 = value.into();
        } else {
            self.places.insert(name.to_owned(), self.pairs.len());
            self.pairs.push((name.to_owned(), value.into()));
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.pairs[*place].1.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_keeps_the_place() {
        let mut environment = Environment::from_config(&["A=1".to_owned(), "B".to_owned(), "C=x=y".to_owned()]);
        environment.set("A", "one");
        environment.set("D", "4");
        assert_eq!(environment.to_config(), ["A=one", "B=", "C=x=y", "D=4"]);
        assert_eq!(environment.value("C"), Some("x=y"));
    }
}
