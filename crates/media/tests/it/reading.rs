//! Frame n is frame n, however it is reached.

use remaster_domain::{FieldFilter, FrameRange, PictType, Rational, SourceIndex};
use remaster_media::{FrameReader, MediaError, THUMB_BYTES, YuvFrame, read_frames, thumbnail};

use crate::fixture::{Clip, DVD, clip, index_of};

/// Ranges and single frames against one linear decode, bit by bit.
fn ranges_agree_with_linear_decode(clip: &Clip) {
    let (index, thumbs) = index_of(&clip.path);
    let count = index.frames.len() as u32;
    assert!(count >= 60, "{count} frames");
    let all = FrameRange { start: 0, end: count };
    let linear: Vec<YuvFrame> = FrameReader::open(&clip.path, &index, all)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(linear.len(), count as usize);
    for (frame, expected) in linear.iter().zip(thumbs.chunks_exact(THUMB_BYTES)) {
        let found = thumbnail(frame);
        let sum: u32 = found
            .iter()
            .zip(expected)
            .map(|(&a, &b)| u32::from(a.abs_diff(b)))
            .sum();
        assert!(sum < 2 * THUMB_BYTES as u32, "frame {}: {sum}", frame.index);
    }
    for (start, end) in [(0, 3), (11, 14), (29, 31), (37, 49), (count - 2, count)] {
        let range = FrameRange { start, end };
        let read: Vec<YuvFrame> = FrameReader::open(&clip.path, &index, range)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(read == linear[start as usize..end as usize], "{start}..{end}");
    }
    let wanted = [58, 2, 2, 33];
    let read: Vec<YuvFrame> = read_frames(&clip.path, &index, &wanted, FieldFilter::None)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let numbers: Vec<u32> = read.iter().map(|frame| frame.index).collect();
    assert_eq!(numbers, [2, 33, 58]);
    assert!(read.iter().all(|frame| *frame == linear[frame.index as usize]));
}

#[test]
fn mpeg2_in_matroska() {
    ranges_agree_with_linear_decode(&clip("dvd.mkv", DVD));
}

#[test]
fn mpeg2_in_a_program_stream() {
    ranges_agree_with_linear_decode(&clip("dvd.mpg", &format!("{DVD} -f vob")));
}

#[test]
fn mpeg2_in_a_transport_stream() {
    ranges_agree_with_linear_decode(&clip("dvd.ts", DVD));
}

#[test]
fn a_seek_that_lands_wrong_is_made_good() {
    let dvd = clip("dvd.mpg", &format!("{DVD} -f vob"));
    let (mut index, _) = index_of(&dvd.path);
    let range = FrameRange { start: 40, end: 43 };
    let read = |index: &SourceIndex| -> Vec<YuvFrame> {
        FrameReader::open(&dvd.path, index, range)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let expected = read(&index);
    // The reader now asks for a place where decoding cannot start, and gets the next one where it can.
    for frame in &mut index.frames {
        frame.key = true;
    }
    assert!(read(&index) == expected);
}

#[test]
fn places_read_together_that_prove_nothing_are_read_from_the_start_and_what_no_reader_proves_is_an_error() {
    // Large enough for frames half a second apart to be sought one by one.
    let dvd = clip("large.mkv", &DVD.replace("scale=240:192", "scale=720:576"));
    let (index, _) = index_of(&dvd.path);
    let wanted = [20, 45, 70];
    let read = |index: &SourceIndex| read_frames(&dvd.path, index, &wanted, FieldFilter::None).unwrap();
    let end = index.frames.len() as u32;
    let linear = FrameReader::open(&dvd.path, &index, FrameRange { start: 0, end }).unwrap();
    let linear = linear
        .map(Result::unwrap)
        .filter(|frame| wanted.contains(&frame.index));
    let expected: Vec<YuvFrame> = linear.collect();
    // Every seek goes twice as far as it should and finds none of the frames.
    let mut far = index.clone();
    far.video.time_base.num *= 2;
    assert!(read(&far).map(Result::unwrap).collect::<Vec<_>>() == expected);
    // A frame on the way to the second wanted one is not in the file as the index has it.
    let mut other = index.clone();
    other.frames[44].pict_type = PictType::Other;
    let mut frames = read(&other);
    assert!(frames.next().unwrap().unwrap() == expected[0]);
    let error = frames.next().unwrap().unwrap_err();
    assert!(matches!(error, MediaError::Mismatch { frame: 45, .. }), "{error}");
    assert!(frames.next().is_none());
}

#[test]
fn open_gop_h264_in_matroska() {
    let encode = "-vf scale=320:180 -c:v libx264 -preset veryfast -x264-params open-gop=1:keyint=12:bframes=3 -c:a copy";
    ranges_agree_with_linear_decode(&clip("hd.mkv", encode));
}

#[test]
fn h264_refreshed_bit_by_bit() {
    let encode =
        "-vf scale=320:180 -c:v libx264 -preset veryfast -x264-params intra-refresh=1:keyint=12 -c:a copy";
    ranges_agree_with_linear_decode(&clip("refreshed.mkv", encode));
}

#[test]
fn open_gop_h264_in_a_transport_stream() {
    let encode = "-vf scale=320:180 -c:v libx264 -preset veryfast -x264-params open-gop=1:keyint=12:bframes=3 -c:a copy";
    ranges_agree_with_linear_decode(&clip("hd.ts", encode));
}

#[test]
fn mpeg4_in_avi() {
    ranges_agree_with_linear_decode(&clip("old.avi", "-vf scale=320:180 -c:v mpeg4 -bf 2 -c:a mp2"));
}

#[test]
fn ten_bit_h264_in_mp4_that_starts_late() {
    let encode = "-vf scale=320:180,setpts=PTS+2/TB -fps_mode passthrough -c:v libx264 -pix_fmt yuv420p10le -preset veryfast -g 12 -c:a aac";
    let clip = clip("late.mp4", encode);
    let (index, _) = index_of(&clip.path);
    assert!(index.frames[0].pts as f64 * index.video.time_base.as_f64() > 1.9);
    ranges_agree_with_linear_decode(&clip);
}

#[test]
fn what_the_file_says_is_in_the_index() {
    let clip = clip("dvd.mkv", DVD);
    let (index, thumbs) = index_of(&clip.path);
    assert_eq!(index.video.sar, Rational { num: 64, den: 45 });
    assert_eq!((index.video.width, index.video.height), (240, 192));
    assert_eq!(index.video.frame_rate, Rational { num: 25, den: 1 });
    assert_eq!(thumbs.len(), index.frames.len() * THUMB_BYTES);
    assert!(index.frames.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    assert!(index.frames[0].key);
}

#[test]
fn another_file_than_the_indexed_one_is_noticed() {
    let dvd = clip("dvd.mkv", DVD);
    let other = clip("other.mkv", &DVD.replace("-g 12", "-g 15"));
    let (index, _) = index_of(&dvd.path);
    let range = FrameRange { start: 10, end: 40 };
    let result: Result<Vec<_>, _> = FrameReader::open(&other.path, &index, range).unwrap().collect();
    let error = result.unwrap_err();
    assert!(matches!(error, MediaError::Mismatch { .. }), "{error}");
}

#[test]
fn a_range_outside_the_index_is_refused() {
    let dvd = clip("dvd.mkv", DVD);
    let (index, _) = index_of(&dvd.path);
    let end = index.frames.len() as u32 + 1;
    assert!(FrameReader::open(&dvd.path, &index, FrameRange { start: 0, end }).is_err());
    assert!(FrameReader::open(&dvd.path, &index, FrameRange { start: 5, end: 5 }).is_err());
    assert!(read_frames(&dvd.path, &index, &[end], FieldFilter::None).is_err());
}

#[test]
fn a_drawing_that_is_held_on_twos_repeats_every_other_frame_through_mpeg2() {
    let held = clip(
        "held.mkv",
        "-vf fps=12.5,scale=720:576,fps=25 -c:v mpeg2video -b:v 4.8M -maxrate 8M -bufsize 1835k -g 12 -bf 2 -an",
    );
    let (index, _) = index_of(&held.path);
    let count = index.frames.len();
    let (first, second): (Vec<u32>, Vec<u32>) = index.repeats.iter().partition(|&&frame| frame % 2 == 0);
    assert!(
        second.len() * 10 >= count / 2 * 9 && first.len() * 10 <= count,
        "of {count} frames {second:?} and {first:?}"
    );
}
