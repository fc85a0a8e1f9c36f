//! Which variables are there, and in which order?

use std::collections::HashMap;
use std::sync::Arc;

use rbuild_solver::graph::Variables;

/// Names and values. Setting a variable again leaves it in its place, as image configurations have it. A clone costs
/// nothing until one of the two is changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pairs: Variables,
    places: Arc<HashMap<Arc<str>, usize>>,
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

    pub(super) fn set(&mut self, name: &str, value: impl Into<Arc<str>>) {
        let value = value.into();
        if let Some(place) = self.places.get(name) {
            self.pairs.replace(*place, value);
        } else {
            let name = Arc::<str>::from(name);
            Arc::make_mut(&mut self.places).insert(name.clone(), self.pairs.len());
            self.pairs.push(name, value);
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.pairs.at(*self.places.get(name)?).map(|(_, value)| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name)
    }

    pub(super) fn pairs(&self) -> &Variables {
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
