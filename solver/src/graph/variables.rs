//! Which variables does a process see?
//!
//! The `RUN`s of a Dockerfile see the same ones, or nearly so, and both can be thousands: so a list shares what it has in
//! common with those it was cloned from. A clone copies nothing; a change copies the sixteen places around it and their
//! way to the root.

use std::fmt;
use std::sync::Arc;

/// So many places have a node of their own.
const WIDTH: usize = 16;

/// Names and values in order. A name stands in it once, if its user sees to that.
#[derive(Clone, Default)]
pub struct Variables {
    length: usize,
    /// How many levels of inner nodes there are.
    height: u32,
    root: Arc<Node>,
}

type Variable = (Arc<str>, Arc<str>);

#[derive(Clone)]
enum Node {
    Inner(Vec<Arc<Self>>),
    Leaf(Vec<Variable>),
}

impl Variables {
    /// How many there are, which is the place of the next one.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The name and the value at a place.
    pub fn at(&self, place: usize) -> Option<(&str, &str)> {
        if place >= self.length {
            return None;
        }
        self.root.at(place, self.height).map(|(name, value)| (&**name, &**value))
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.length).filter_map(|place| self.at(place))
    }

    /// Adds one at the end.
    pub fn push(&mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) {
        if self.length == WIDTH.pow(self.height + 1) {
            let below = std::mem::take(&mut self.root);
            self.root = Arc::new(Node::Inner(vec![below]));
            self.height += 1;
        }
        Arc::make_mut(&mut self.root).set(self.length, self.height, (name.into(), value.into()));
        self.length += 1;
    }

    /// Changes the value at a place, which must have one.
    pub fn replace(&mut self, place: usize, value: impl Into<Arc<str>>) {
        if let Some((name, _)) = self.root.at(place, self.height).filter(|_| place < self.length) {
            let name = name.clone();
            Arc::make_mut(&mut self.root).set(place, self.height, (name, value.into()));
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl Node {
    fn at(&self, place: usize, height: u32) -> Option<&Variable> {
        match self {
            Self::Leaf(variables) => variables.get(place % WIDTH),
            Self::Inner(nodes) => nodes.get(place / WIDTH.pow(height) % WIDTH)?.at(place, height - 1),
        }
    }

    fn set(&mut self, place: usize, height: u32, variable: Variable) {
        match self {
            Self::Leaf(variables) => match variables.get_mut(place % WIDTH) {
                Some(slot) => *slot = variable,
                None => variables.push(variable),
            },
            Self::Inner(nodes) => {
                let at = place / WIDTH.pow(height) % WIDTH;
                if at == nodes.len() {
                    let empty = if height > 1 { Self::Inner(Vec::new()) } else { Self::default() };
                    nodes.push(Arc::new(empty));
                }
                Arc::make_mut(&mut nodes[at]).set(place, height - 1, variable);
            }
        }
    }
}

impl<Name: Into<Arc<str>>, Value: Into<Arc<str>>> FromIterator<(Name, Value)> for Variables {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(pairs: I) -> Self {
        let mut variables = Self::default();
        pairs.into_iter().for_each(|(name, value)| variables.push(name, value));
        variables
    }
}

impl PartialEq for Variables {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.iter().eq(other.iter())
    }
}

impl Eq for Variables {}

impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_keep_what_they_had() {
        let mut variables = Variables::default();
        let mut kept = Vec::new();
        for place in 0..1_000 {
            kept.push(variables.clone());
            variables.push(format!("N{place}"), "old");
            variables.replace(place / 2, "new");
        }
        for (length, variables) in kept.iter().enumerate() {
            let expected = |place: usize| if place < length.div_ceil(2) { "new" } else { "old" };
            let found: Vec<_> = variables.iter().collect();
            let expected: Vec<_> = (0..length).map(|place| (format!("N{place}"), expected(place))).collect();
            assert!(found.iter().copied().eq(expected.iter().map(|(name, value)| (name.as_str(), *value))), "{length}");
            assert_eq!(variables.at(length), None);
        }
    }

    #[test]
    fn a_place_beyond_the_end_is_no_place() {
        let mut variables: Variables = [("A", "1"), ("B", "2")].into_iter().collect();
        variables.replace(2, "3");
        assert_eq!(format!("{variables:?}"), r#"[("A", "1"), ("B", "2")]"#);
        assert_ne!(variables, [("A", "1"), ("B", "3")].into_iter().collect());
        assert_eq!((variables.len(), variables.is_empty(), Variables::default().at(0)), (2, false, None));
    }
}
