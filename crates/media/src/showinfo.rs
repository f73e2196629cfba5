//! Reads the lines that ffmpeg's `showinfo` filter prints per frame, and makes their timestamps strictly ascending.
//!
//! The repair is a function of the timestamps from the first frame on, so every linear decode of a file repairs alike.

use remaster_domain::PictType;

/// Frames whose timestamps went back by less than this many seconds are mended; a longer jump is another timeline.
const JUMP_SECONDS_MAX: f64 = 1.0;

/// What showinfo says of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLine {
    /// Ticks of the stream's time base; `None` where the decoder knew no timestamp.
    pub pts: Option<i64>,
    /// How it was coded.
    pub pict_type: PictType,
    /// Whether decoding can start here.
    pub key: bool,
    /// Whether it is flagged as two fields.
    pub interlaced: bool,
    /// Width and height in pixels, where they are said.
    pub size: Option<(u32, u32)>,
}

impl FrameLine {
    /// Takes a line apart; `None` when it does not describe a frame.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = &line[line.find("showinfo")?..];
        field(line, " n:")?;
        let pict_type = match field(line, " type:")? {
            "I" => PictType::I,
            "P" => PictType::P,
            "B" => PictType::B,
            _ => PictType::Other,
        };
        Some(Self {
            pts: field(line, " pts:")?.parse().ok(),
            pict_type,
            key: field(line, " iskey:")? == "1",
            interlaced: field(line, " i:")? != "P",
            size: field(line, " s:").and_then(size_of),
        })
    }
}

fn size_of(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line[line.find(name)? + name.len()..].trim_start();
    rest.split_whitespace().next()
}

/// Makes timestamps strictly ascending: a missing or repeated one becomes one tick more than the one before it.
#[derive(Debug, Clone)]
pub(crate) struct PtsRepair {
    last: Option<i64>,
    jump_ticks_max: i64,
}

/// A timestamp that no repair can mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeJumped;

impl PtsRepair {
    pub(crate) fn new(tick_s: f64) -> Self {
        Self {
            last: None,
            jump_ticks_max: (JUMP_SECONDS_MAX / tick_s).ceil() as i64,
        }
    }

    pub(crate) fn next(&mut self, raw: Option<i64>) -> Result<i64, TimeJumped> {
        let pts = match (raw, self.last) {
            (Some(pts), None) => pts,
            (None, None) => 0,
            (Some(pts), Some(last)) if pts > last => pts,
            (Some(pts), Some(last)) if last.saturating_sub(pts) > self.jump_ticks_max => {
                return Err(TimeJumped);
            }
            (_, Some(last)) => last.checked_add(1).ok_or(TimeJumped)?,
        };
        self.last = Some(pts);
        Ok(pts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "[Parsed_showinfo_4 @ 0x5575] n:   1 pts:     46 pts_time:0.046   pos:    25949 fmt:gray \
                        sar:1/1 s:64x36 i:T iskey:0 type:B";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_line_makes_the_parser_panic(text in ".*", at in 0..LINE.len(), length in 0..LINE.len()) {
            let _ = FrameLine::parse(&text);
            let end = (at + length).min(LINE.len());
            let _ = FrameLine::parse(&format!("{}{text}{}", &LINE[..at], &LINE[end..]));
        }

        #[test]
        fn whatever_timestamps_come_those_let_through_ascend(
            raw in proptest::collection::vec(proptest::option::of(any::<i64>()), 1..40),
            tick_s in 1e-9..1.0,
        ) {
            let mut repair = PtsRepair::new(tick_s);
            let repaired: Vec<i64> = raw.iter().map_while(|&pts| repair.next(pts).ok()).collect();
            prop_assert!(repaired.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn a_frame_after_the_last_timestamp_there_is_is_refused() {
        let mut repair = PtsRepair::new(0.001);
        assert_eq!(repair.next(Some(i64::MAX)), Ok(i64::MAX));
        assert_eq!(repair.next(None), Err(TimeJumped));
    }

    #[test]
    fn a_frame_line_is_read_and_others_are_not() {
        let expected = FrameLine {
            pts: Some(46),
            pict_type: PictType::B,
            key: false,
            interlaced: true,
            size: Some((64, 36)),
        };
        assert_eq!(FrameLine::parse(LINE), Some(expected));
        assert_eq!(
            FrameLine::parse("[Parsed_showinfo_4 @ 0x5575]   side data - pan/scan"),
            None
        );
        assert_eq!(
            FrameLine::parse("[mpeg2video @ 0x1] n: 1 pts: 2 iskey:1 type:I i:P"),
            None
        );
    }

    #[test]
    fn a_missing_timestamp_is_no_number() {
        let line = "[Parsed_showinfo_0 @ 0x1] n:   0 pts:   NOPTS pts_time:NOPTS i:P iskey:1 type:I";
        assert_eq!(FrameLine::parse(line).map(|frame| frame.pts), Some(None));
    }

    #[test]
    fn repaired_timestamps_ascend_and_a_jump_back_is_refused() {
        let mut repair = PtsRepair::new(0.001);
        let raw = [Some(10), Some(10), None, Some(50), Some(49)];
        let repaired: Vec<_> = raw.into_iter().map(|pts| repair.next(pts)).collect();
        assert_eq!(repaired, [Ok(10), Ok(11), Ok(12), Ok(50), Ok(51)]);
        assert_eq!(repair.next(Some(-5000)), Err(TimeJumped));
    }
}
