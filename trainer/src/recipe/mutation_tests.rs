//! Recipes that people break: lines lost, doubled and swapped, values of another kind or size, a file cut short. Whatever comes out
//! is a recipe that can be used or one error in words.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::resolve::READY;
use super::{Recipe, differences};
use crate::TrainError;

const VALUES: [&str; 18] = [
    "0",
    "1",
    "-1",
    "3",
    "65537",
    "4294967295",
    "9223372036854775807",
    "0.5",
    "-0.1",
    "1e308",
    "inf",
    "nan",
    "\"\"",
    "\"esrgan\"",
    "true",
    "[]",
    "{}",
    "[1, 9223372036854775807, 9223372036854775807]",
];

/// One thing that is done to a text, at a place of it.
#[derive(Debug, Clone)]
enum Edit {
    Remove(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    /// What stands behind the last `=` of a line, or between two, is another.
    Value(prop::sample::Index, prop::sample::Index, &'static str),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        1 => place().prop_map(Edit::Remove),
        1 => place().prop_map(Edit::Double),
        1 => (place(), place()).prop_map(|(a, b)| Edit::Swap(a, b)),
        8 => (place(), place(), prop::sample::select(&VALUES[..])).prop_map(|(line, key, value)| Edit::Value(line, key, value)),
        1 => place().prop_map(Edit::Cut),
        1 => (place(), "\\PC{0,4}").prop_map(|(place, text)| Edit::Insert(place, text)),
    ]
}

fn edited(text: String, edit: &Edit) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return text;
    }
    let letters: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    match edit {
        Edit::Remove(line) => drop(lines.remove(line.index(lines.len()))),
        Edit::Double(line) => {
            let line = line.index(lines.len());
            lines.insert(line, lines[line].clone());
        }
        Edit::Swap(one, other) => {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
        }
        Edit::Value(line, key, value) => {
            let with_values: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains('=')).collect();
            if !with_values.is_empty() {
                let line = &mut lines[with_values[line.index(with_values.len())]];
                *line = with_value(line, key, value);
            }
        }
        Edit::Cut(place) => return text[..letters[place.index(letters.len())]].to_owned(),
        Edit::Insert(place, noise) => {
            let (before, after) = text.split_at(letters[place.index(letters.len())]);
            return format!("{before}{noise}{after}");
        }
    }
    lines.join("\n")
}

/// `a = 1`, `a = { b = 1, c = [2, 3] }`: one of the plain values is replaced.
fn with_value(line: &str, key: &prop::sample::Index, value: &str) -> String {
    let equals: Vec<usize> = line.match_indices('=').map(|(at, _)| at).collect();
    let equal = equals[key.index(equals.len())];
    let rest = &line[equal + 1..];
    let ends = if rest.trim_start().starts_with('[') {
        "]"
    } else {
        ",}#"
    };
    let end = rest.find(|letter| ends.contains(letter)).unwrap_or(rest.len());
    let end = end + usize::from(ends == "]" && end < rest.len());
    format!("{} {value} {}", &line[..=equal], &rest[end..])
}

/// All that a run asks of a recipe before its first step and at its ends.
fn use_it(recipe: &Recipe) {
    assert!(recipe.total_steps() > 0);
    for scale in 0..=9 {
        if let Ok(side) = recipe.lq_size_px(scale) {
            assert!(side > 0 && side.is_multiple_of(recipe.network_g.unshuffle()));
        }
    }
    for stage in &recipe.stages {
        for step in [0, stage.total_iter / 2, stage.total_iter] {
            let rate = stage
                .scheduler
                .rate(stage.optim_g.lr, step, stage.total_iter, stage.warmup_iter);
            assert!(rate.is_finite() && rate >= 0.0, "rate {rate} at {step}");
            assert!(stage.ramps().iter().all(|(_, ramp)| ramp.at(step) >= 0.0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_broken_recipe_is_one_error_or_can_be_used(
        ready in prop::sample::select(&READY[..]),
        edits in prop::collection::vec(edit(), 1..4),
    ) {
        let text = edits.iter().fold(ready.1.to_owned(), edited);
        let _ = differences(&text);
        match Recipe::resolve(&text) {
            Ok(recipe) => use_it(&recipe),
            Err(error) => {
                prop_assert!(matches!(error, TrainError::Recipe(_)) && !error.is_retryable());
                prop_assert!(error.to_string().len() > "recipe: ".len());
            }
        }
    }

    #[test]
    fn what_is_no_recipe_at_all_is_an_error(text in "\\PC{0,60}") {
        let resolved = Recipe::resolve(&format!("= {text}"));
        prop_assert!(resolved.is_err());
    }
}

#[test]
fn a_number_that_no_run_is_meant_to_have_is_named_with_what_is_expected() {
    let demo = Recipe::text_of("demo");
    for (from, to, words) in [
        (
            "batch_size = 8",
            "batch_size = 0",
            "batch_size is 0, expected 1 to 65536",
        ),
        (
            "batch_size = 8",
            "batch_size = 8\nprefetch = 99999",
            "prefetch is 99999, expected 1 to 1024",
        ),
        (
            "num_feat = 24",
            "num_feat = 2400",
            "network_g: num_feat is 2400, expected 1 to 1024",
        ),
        (
            "total_iter = 1_500",
            "total_iter = 0",
            "stage `l1`: total_iter is 0",
        ),
        ("lr = 1e-3", "lr = 1e308", "expected 0 to 1e30"),
        (
            "betas = [0.9, 0.99]",
            "betas = [0.9, 1.0]",
            "betas are 0.9 and 1, expected 0 to below 1",
        ),
    ] {
        assert!(demo.contains(from), "`{from}` is not in the recipe");
        let error = Recipe::resolve(&demo.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}
