//! What a recipe says that differs from the ready one it is nearest to: printed at the start of a run, since a weight
//! that was changed a month ago is easily forgotten.

use std::collections::BTreeMap;

use toml::Value;

use super::resolve::READY;

/// Differences to the nearest ready recipe as `key: value (name has other)`, in key order, and that recipe's name.
#[must_use]
pub fn differences(text: &str) -> (&'static str, Vec<String>) {
    let own = flat(text);
    let nearest = READY
        .iter()
        .map(|(name, ready)| (*name, compare(name, &own, &flat(ready))))
        .min_by_key(|(_, lines)| lines.len());
    nearest.expect("there are ready recipes")
}

fn compare(name: &str, own: &BTreeMap<String, String>, ready: &BTreeMap<String, String>) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = own.keys().chain(ready.keys()).collect();
    let line = |key: &String| match (own.get(key), ready.get(key)) {
        (Some(own), Some(ready)) if own == ready => None,
        (Some(own), Some(ready)) => Some(format!("{key}: {own} ({name} has {ready})")),
        (Some(own), None) => Some(format!("{key}: {own} ({name} does not have it)")),
        (None, Some(ready)) => Some(format!("{key}: left out ({name} has {ready})")),
        (None, None) => None,
    };
    keys.into_iter()
        .filter(|key| *key != "name")
        .filter_map(line)
        .collect()
}

fn flat(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        flatten("", &Value::Table(table), &mut found);
    }
    found
}

/// Stages and losses are known by their name or type, not by their place.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Table(table) => table
            .iter()
            .for_each(|(key, value)| flatten(&below(key), value, into)),
        Value::Array(values) if values.iter().all(Value::is_table) => {
            for (position, value) in values.iter().enumerate() {
                let name = value.get("name").or(value.get("type")).and_then(Value::as_str);
                flatten(&below(name.unwrap_or(&position.to_string())), value, into);
            }
        }
        plain => {
            into.insert(path.to_owned(), plain.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn a_ready_recipe_differs_in_nothing_and_a_changed_one_in_what_was_changed() {
        assert_eq!(differences(Recipe::text_of("esrgan")), ("esrgan", vec![]));
        let changed = Recipe::text_of("demo")
            .replacen("lr = 1e-3", "lr = 2e-3", 1)
            .replace("batch_size = 8\n", "");
        let (name, lines) = differences(&changed);
        assert_eq!(name, "demo");
        assert_eq!(
            lines,
            [
                "datasets.train.batch_size: left out (demo has 8)",
                "stage.l1.optim_g.lr: 0.002 (demo has 0.001)"
            ]
        );
    }
}
