//! What a task needs of a worker, what it would rather find there, and what a job needs of its coordinators. Pure.
//!
//! A need is a condition, see [`remaster_domain::needs_are_met`]; a preference only puts one task before another. Left to
//! others: what a worker says of itself, and finding tasks that it can take.

use remaster_domain::{Encoder, JobSpec, Lattice, Season, TaskSpec};
use remaster_proto::PROTOCOL_VERSION;

/// The label under which a worker's protocol version is known.
pub const PROTOCOL: &str = "protocol";

/// Words that a session is remembered to hold: the sources of a few episodes and a model.
pub const HELD_MAX: usize = 12;

/// What a task needs: what its kind needs, and what the season asks for besides; empty for nothing.
#[must_use]
pub fn needs_of(task: &TaskSpec, season: &Season) -> String {
    let codec = |encoder: Encoder| format!("codec.{}", encoder.name());
    let own = match task {
        // Planning tries the encoder, and segments are made by it.
        TaskSpec::Plan(plan) => Some(codec(plan.settings.encoder)),
        TaskSpec::Upscale(segment) => Some(codec(segment.settings.encoder)),
        _ => None,
    };
    let version = is_of_this_version(task).then(|| format!("{PROTOCOL}>={PROTOCOL_VERSION}"));
    let asked = season.needs.get(&task.kind()).cloned();
    let all: Vec<String> = own.into_iter().chain(version).chain(asked).collect();
    all.join(",").replace(' ', "")
}

/// The protocol version that a coordinator must speak to lead a job on: ours where the season asks for anything that the one
/// before would pass over.
#[must_use]
pub fn version_of(job: &JobSpec) -> u32 {
    let (season, settings) = (&job.season, &job.season.settings);
    let has_hd_alone = season.episodes.iter().any(|episode| episode.sd.is_none());
    let has_choice = !settings.fields.is_auto() || settings.nnedi_weights.is_some();
    if has_hd_alone || has_choice || season.lattice == Lattice::HdNative {
        PROTOCOL_VERSION
    } else {
        PROTOCOL_VERSION - 1
    }
}

/// Whether workers of the protocol version before would not understand a task, or pass over something in it.
fn is_of_this_version(task: &TaskSpec) -> bool {
    match task {
        TaskSpec::Press(_) => true,
        TaskSpec::Align(spec) => {
            let has_choice = !spec.fields.is_auto() || spec.nnedi_weights.is_some();
            spec.span.synthetic || spec.lattice == Lattice::HdNative || has_choice
        }
        TaskSpec::Extract(spec) => {
            spec.span.synthetic || spec.alignment.lattice == Lattice::HdNative || spec.nnedi_weights.is_some()
        }
        TaskSpec::Curate(spec) => {
            let has_synthetic = spec.episodes.iter().any(|episode| episode.span.synthetic);
            has_synthetic || spec.lattice == Lattice::HdNative
        }
        TaskSpec::Plan(spec) => spec.settings.nnedi_weights.is_some(),
        TaskSpec::Upscale(spec) => spec.settings.nnedi_weights.is_some(),
        TaskSpec::Assemble(spec) => spec.settings.nnedi_weights.is_some(),
        TaskSpec::Index(_) | TaskSpec::Train(_) | TaskSpec::Publish(_) => false,
    }
}

/// What would be fetched for a task unless it is there: `source.<sha256>`, `model.<id>`.
#[must_use]
pub fn prefers_of(task: &TaskSpec) -> Vec<String> {
    let mut words = vec![];
    let mut source = |sha256: &remaster_domain::ContentHash| words.push(format!("source.{sha256}"));
    let model = match task {
        TaskSpec::Index(spec) => {
            source(&spec.source.sha256);
            None
        }
        TaskSpec::Press(spec) => {
            source(&spec.hd.source.sha256);
            None
        }
        TaskSpec::Align(spec) => {
            source(&spec.span.sd.source.sha256);
            source(&spec.span.hd.source.sha256);
            None
        }
        TaskSpec::Extract(spec) => {
            source(&spec.span.sd.source.sha256);
            source(&spec.span.hd.source.sha256);
            None
        }
        TaskSpec::Plan(spec) => {
            source(&spec.sd.source.sha256);
            Some(&spec.model)
        }
        TaskSpec::Upscale(spec) => {
            source(&spec.sd.source.sha256);
            Some(&spec.model)
        }
        TaskSpec::Assemble(spec) => {
            source(&spec.sd.source.sha256);
            None
        }
        TaskSpec::Curate(_) | TaskSpec::Train(_) | TaskSpec::Publish(_) => None,
    };
    words.extend(model.map(|id| format!("model.{id}")));
    words
}

/// What a session holds once it has taken a task: the newest words last, the oldest forgotten.
#[must_use]
pub fn held_after(held: &[String], words: &[String]) -> Vec<String> {
    let mut next: Vec<String> = held
        .iter()
        .filter(|word| !words.contains(word))
        .cloned()
        .collect();
    next.extend_from_slice(words);
    next.split_off(next.len().saturating_sub(HELD_MAX))
}

/// The place of the task that a session shall take: of those that prefer most of what it holds, the oldest.
#[must_use]
pub fn favourite<'a>(
    tasks: impl IntoIterator<Item = &'a [String]>,
    holds: impl Fn(&str) -> bool,
) -> Option<usize> {
    let scored = tasks
        .into_iter()
        .map(|words| words.iter().filter(|word| holds(word)).count());
    let best = scored
        .enumerate()
        .min_by_key(|(place, score)| (std::cmp::Reverse(*score), *place));
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_oldest_of_those_that_find_most_there_goes_first() {
        let queue = [
            words("source.a"),
            words("source.b model.m"),
            words("source.b model.m"),
            words("source.b"),
        ];
        let choose = |held: &str| {
            let held = words(held);
            favourite(queue.iter().map(Vec::as_slice), |word| {
                held.iter().any(|known| known == word)
            })
        };
        assert_eq!(choose("source.b model.m"), Some(1));
        assert_eq!(choose("source.b"), Some(1));
        assert_eq!(choose(""), Some(0));
        assert_eq!(
            choose("source.z"),
            Some(0),
            "what nobody holds is done all the same"
        );
        assert_eq!(favourite([], |_| true), None);
    }

    #[test]
    fn what_was_held_longest_ago_is_forgotten_first() {
        let many: Vec<String> = (0..HELD_MAX).map(|number| format!("source.{number}")).collect();
        let after = held_after(&many, &words("source.0 model.m"));
        assert_eq!(after.len(), HELD_MAX);
        assert_eq!(after[HELD_MAX - 2..], words("source.0 model.m"));
        assert!(!after.contains(&"source.1".to_owned()));
    }
}
