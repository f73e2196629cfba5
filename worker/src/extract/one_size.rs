//! Whether pairs on HD's pixels may be learnt from together: a model is shown every DVD on as many lines as its pairs had, so
//! the Blu-rays of a season must agree on how many these are.

use std::collections::BTreeMap;

use remaster_domain::{EpisodeId, PairRecord};

use crate::error::WorkError;

/// Lines of two episodes of the same raster differ by what a DVD was squeezed or cropped by: less than a part in so many.
const LINES_TOLERANCE: u32 = 10;

/// Refuses records of which two stand for rasters of different sizes. Pairs on SD's pixels say nothing of lines and pass.
pub(super) fn check_one_size<'a>(records: impl IntoIterator<Item = &'a PairRecord>) -> Result<(), WorkError> {
    let mut lines_of: BTreeMap<u32, &EpisodeId> = BTreeMap::new();
    for record in records {
        if let Some(place) = record.hd_place {
            lines_of.entry(place.lines).or_insert(&record.episode);
        }
    }
    let (Some((&least, small)), Some((&most, large))) =
        (lines_of.first_key_value(), lines_of.last_key_value())
    else {
        return Ok(());
    };
    if (most - least) * LINES_TOLERANCE < least {
        return Ok(());
    }
    Err(WorkError::BadInput(format!(
        "the Blu-rays are of different sizes: episode {small} gives pairs of {least} lines, {large} of {most}; \
         leave one kind out, give it a season of its own, or take `lattice = \"sd-native\"`"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{ActiveArea, HdPlace};

    use super::super::repeats::tests::record;
    use super::*;

    fn with_lines(lines: Option<u32>) -> PairRecord {
        let area = ActiveArea {
            x: 0,
            y: 0,
            width: 2,
            height: 2,
        };
        PairRecord {
            hd_place: lines.map(|lines| HdPlace { area, lines }),
            ..record(0, 0.9)
        }
    }

    #[test]
    fn a_dvd_that_was_squeezed_passes_and_a_blu_ray_of_720_lines_beside_1080_does_not() {
        let check = |lines: &[Option<u32>]| {
            let records: Vec<_> = lines.iter().copied().map(with_lines).collect();
            check_one_size(&records)
        };
        check(&[]).unwrap();
        check(&[None, None]).unwrap();
        check(&[Some(540), Some(546), Some(531)]).unwrap();
        let error = check(&[Some(540), Some(360), Some(540)]).unwrap_err();
        assert!(
            matches!(&error, WorkError::BadInput(text) if text.contains("360 lines") && text.contains("540"))
        );
    }
}
