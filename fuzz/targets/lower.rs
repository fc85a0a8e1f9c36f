//! Does everything that parses lower to a graph or to mistakes that can be drawn, with any arguments, contexts and images?
//!
//! `rbuild_fuzz::input` says what an input looks like.

#![no_main]

use futures_util::FutureExt as _;
use libfuzzer_sys::{Corpus, fuzz_target};
use rbuild_frontend::{LowerError, Source, lower, parse};
use rbuild_fuzz::{cost::bounded, input::Input, spans};

fuzz_target!(|data: &str| -> Corpus {
    let input = Input::new(data);
    let source = Source::new("Dockerfile", input.text);
    let Ok(file) = parse(&source) else { return Corpus::Reject };
    let lower = || lower(&file, &input.options, &input.registry).now_or_never().expect("images are there at once");
    match bounded("lowering", data.len(), lower) {
        Ok(lowered) => {
            spans::drawable(&source, &lowered.warnings);
            assert!(lowered.result.vertex.index() < lowered.graph.len(), "the result is not in the graph");
            for (id, vertex) in lowered.graph.vertices() {
                for input in vertex.inputs() {
                    assert!(input.vertex.index() < id.index(), "an input comes after what needs it");
                }
                for span in &vertex.origin.spans {
                    spans::inside(&source, *span, &vertex.origin.title);
                }
            }
        }
        Err(LowerError::Mistakes(found)) => {
            assert!(!found.is_empty(), "neither a graph nor a mistake");
            spans::drawable(&source, &found);
        }
        Err(LowerError::Image { span, name, .. } | LowerError::Date { span, name, .. }) => spans::inside(&source, span, &name),
    }
    Corpus::Keep
});
