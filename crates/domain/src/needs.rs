//! What is needed of a worker beyond taking a kind of task, and whether one has it.
//!
//! A need is data: `codec.x265`, `mem_mib>=4000`, `gpu.vram_mib>=8000`; several are joined by a comma and all must be met.
//! Left to others: which task needs what, what a worker says of itself, and finding tasks that it can take.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What a worker says of itself, by label.
pub type Labels = BTreeMap<String, String>;

/// Comparisons, longer ones first: `>=` begins with `>`.
const COMPARISONS: [&str; 6] = [">=", "<=", "!=", ">", "<", "="];

/// How labels of encoders that work begin.
const CODECS: &str = "codec.";

/// Whether a text says what is needed in words that can be met.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_needs(needs: &str) -> Result<(), String> {
    for need in needs.split(',').map(str::trim) {
        let (label, wanted) = match compared(need) {
            Some((label, _, wanted)) => (label, Some(wanted)),
            None => (need, None),
        };
        let is_word = |text: &str| {
            let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            !text.is_empty() && text.chars().all(fits)
        };
        if !is_word(label) || wanted.is_some_and(|wanted| !is_word(wanted)) {
            return Err(format!(
                "`{need}` is no need: expected a label, as `codec.x265`, or a comparison, as `gpu.vram_mib>=8000`"
            ));
        }
    }
    Ok(())
}

/// Whether a worker has all that is needed.
#[must_use]
pub fn needs_are_met(needs: &str, labels: &Labels) -> bool {
    needs
        .split(',')
        .map(str::trim)
        .filter(|need| !need.is_empty())
        .all(|need| is_met(need, labels))
}

/// Label, comparison and what is wanted, of a need that compares.
fn compared(need: &str) -> Option<(&str, &'static str, &str)> {
    COMPARISONS.iter().find_map(|comparison| {
        let (label, wanted) = need.split_once(comparison)?;
        Some((label.trim(), *comparison, wanted.trim()))
    })
}

fn is_met(need: &str, labels: &Labels) -> bool {
    let Some((label, comparison, wanted)) = compared(need) else {
        return is_there(need, labels);
    };
    let Some(offered) = labels.get(label) else {
        return false;
    };
    // Numbers as numbers, and anything else only as the same or not.
    let order = match (offered.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(offered), Ok(wanted)) => offered.partial_cmp(&wanted),
        _ => (offered == wanted).then_some(Ordering::Equal),
    };
    match comparison {
        ">=" => order.is_some_and(Ordering::is_ge),
        "<=" => order.is_some_and(Ordering::is_le),
        ">" => order.is_some_and(Ordering::is_gt),
        "<" => order.is_some_and(Ordering::is_lt),
        "!=" => order != Some(Ordering::Equal),
        _ => order == Some(Ordering::Equal),
    }
}

/// A worker that names no codec at all is older than those labels: it is given the task and finds out by trying.
fn is_there(label: &str, labels: &Labels) -> bool {
    let is_older = label.starts_with(CODECS) && !labels.keys().any(|known| known.starts_with(CODECS));
    is_older || labels.contains_key(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let card = labels(&[("gpu.vram_mib", "12000")]);
        assert!(needs_are_met("gpu.vram_mib>=8000", &card));
        assert!(needs_are_met("gpu.vram_mib >= 12000", &card));
        assert!(!needs_are_met("gpu.vram_mib>12000", &card));
        assert!(!needs_are_met("gpu.vram_mib<=8000", &card));
        assert!(needs_are_met("gpu.vram_mib!=8000", &card));
        assert!(needs_are_met("gpu.vram_mib=12000.0", &card));
    }

    #[test]
    fn what_is_compared_must_be_there_and_words_are_the_same_or_not() {
        assert!(!needs_are_met("gpu.vram_mib>=0", &labels(&[])));
        assert!(!needs_are_met(
            "gpu.vram_mib>=0",
            &labels(&[("gpu.vram_mib", "much")])
        ));
        let host = labels(&[("host", "attic")]);
        assert!(needs_are_met("host=attic", &host));
        assert!(!needs_are_met("host!=attic", &host));
        assert!(!needs_are_met("host>attic", &host));
    }

    #[test]
    fn a_codec_is_refused_by_a_worker_that_names_others_and_tried_by_one_that_names_none() {
        assert!(needs_are_met("codec.x265", &labels(&[("codec.x265", "yes")])));
        assert!(!needs_are_met("codec.x265", &labels(&[("codec.x264", "yes")])));
        assert!(needs_are_met("codec.x265", &labels(&[("threads", "2")])));
    }

    #[test]
    fn what_is_asked_for_by_its_name_alone_must_be_there() {
        assert!(needs_are_met(
            "gpu.vram_mib",
            &labels(&[("gpu.vram_mib", "8000")])
        ));
        assert!(!needs_are_met("gpu.vram_mib", &labels(&[("threads", "2")])));
    }

    #[test]
    fn all_needs_of_a_list_must_be_met() {
        let worker = labels(&[("codec.x265", "yes"), ("mem_mib", "4000")]);
        assert!(needs_are_met("", &worker));
        assert!(needs_are_met("codec.x265,mem_mib>=4000", &worker));
        assert!(!needs_are_met("codec.x265,mem_mib>=8000", &worker));
    }

    #[test]
    fn what_cannot_be_met_by_anybody_is_refused() {
        for good in ["codec.x265", "gpu.vram_mib >= 8000", "host=attic-2,mem_mib>4000"] {
            assert_eq!(check_needs(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ",",
            "gpu.vram_mib>=",
            ">=8000",
            "much memory",
            "mem_mib>=4000,",
            "a=[b]",
        ] {
            assert!(
                check_needs(bad).is_err_and(|text| text.contains("is no need")),
                "{bad}"
            );
        }
    }
}
