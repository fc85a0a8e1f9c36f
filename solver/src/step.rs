//! Which step of an earlier build is the former self of this one?
//!
//! A changed step has new keys, so the record of its former self cannot be found by key. It is found by either of two
//! names: its *text* (the title without the counter, and which of the equal texts of its stage it is), which survives
//! lines being added above it; and its *position* in its stage, which survives its own text being changed. Both are
//! scoped by [`Graph::scope`], so that unrelated Dockerfiles are not compared.

use std::collections::HashMap;

use rbuild_core::{Digest, KeyHasher};

use crate::graph::Graph;

/// For each vertex of `graph`, by number, the names its records are looked for by, best first.
pub(crate) fn names(graph: &Graph) -> Vec<Vec<Digest>> {
    let mut seen = HashMap::new();
    let mut name = |kind: &'static str, stage: &str, rest: &str| {
        let occurrence = seen.entry((kind, stage.to_owned(), rest.to_owned())).or_insert(0u64);
        *occurrence += 1;
        let mut hasher = KeyHasher::new(kind);
        hasher.text(graph.scope()).text(stage).text(rest).number(*occurrence);
        hasher.finish()
    };
    let vertices = graph.vertices();
    vertices
        .map(|(_, vertex)| {
            let title = Title::split(&vertex.origin.title);
            let mut names = vec![name("step-text/1", title.stage, title.text)];
            names.extend(title.position.map(|position| name("step-position/1", title.stage, position)));
            names
        })
        .collect()
}

/// `[stage 2/5] RUN make`, taken apart; of any other title everything is text.
struct Title<'a> {
    stage: &'a str,
    position: Option<&'a str>,
    text: &'a str,
}

impl<'a> Title<'a> {
    fn split(title: &'a str) -> Self {
        let whole = Self { stage: "", position: None, text: title };
        let Some((prefix, text)) = title.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return whole };
        let (stage, counter) = prefix.rsplit_once(' ').unwrap_or(("", prefix));
        let position = counter.split_once('/').map(|(position, _)| position);
        let stage = if position.is_some() { stage.trim() } else { prefix };
        Self { stage, position, text: text.trim_start() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Op, Origin};

    fn graph(scope: &str, titles: &[&str]) -> Graph {
        let mut graph = Graph::new();
        graph.set_scope(scope);
        for title in titles {
            let origin = Origin { title: (*title).to_owned(), ..Origin::default() };
            graph.add(Op::Scratch, &[], origin).unwrap();
        }
        graph
    }

    fn first(scope: &str, title: &str) -> Vec<Digest> {
        names(&graph(scope, &[title])).remove(0)
    }

    #[test]
    fn the_text_survives_a_new_line_above_and_the_position_a_new_text() {
        let before = first("d", "[build 2/5] RUN make");
        let moved = first("d", "[build 3/6] RUN make");
        let edited = first("d", "[build  2/5] RUN make all");
        assert_eq!(before[0], moved[0]);
        assert_ne!(before[1], moved[1]);
        assert_ne!(before[0], edited[0]);
        assert_eq!(before[1], edited[1]);
    }

    #[test]
    fn stages_scopes_and_equal_texts_are_kept_apart() {
        let base = first("d", "[build 2/5] RUN make");
        assert_ne!(base, first("d", "[test 2/5] RUN make"));
        assert_ne!(base, first("e", "[build 2/5] RUN make"));
        let twice = names(&graph("d", &["[build 2/5] RUN make", "[build 3/5] RUN make"]));
        assert_ne!(twice[0][0], twice[1][0]);
    }

    #[test]
    fn titles_without_a_counter_are_found_by_their_text() {
        for title in ["", "[", "[internal] load build context", "load", "[1/2 x", "]["] {
            assert_eq!(first("d", title).len(), 1, "{title}");
        }
        assert_eq!(first("d", "[2/5] RUN make").len(), 2);
    }
}
