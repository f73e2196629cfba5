//! Fields: each kind of source is told from its pictures, and comes out as whole frames, the same ones however read.

use std::ops::ControlFlow;
use std::path::Path;

use remaster_domain::{
    ContentHash, FieldChoice, FieldFilter, FrameRange, NNEDI_WEIGHTS_BYTES, OutputList, SourceIndex,
};
use remaster_media::{
    FrameReader, FrameThumbs, MediaError, Restore, THUMB_BYTES, YuvFrame, index, read_frames, thumbnail,
};

use crate::fixture::{Clip, clip, ffmpeg, index_of};

/// An interlaced encoder, as discs have it whatever their pictures are.
const FIELDS: &str = "-c:v mpeg2video -b:v 4M -maxrate 6M -bufsize 2M -flags +ildct+ilme -top 1 -bf 2";

fn read(path: &Path, index: &SourceIndex, range: (u32, u32), restore: impl Into<Restore>) -> Vec<YuvFrame> {
    let range = FrameRange {
        start: range.0,
        end: range.1,
    };
    FrameReader::filtered(path, index, range, restore)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Reading any range, or frames that lie apart, gives the frames that reading all of it gives.
fn ranges_agree(clip: &Clip, index: &SourceIndex) -> Vec<YuvFrame> {
    let filter = index.fields.filter;
    let linear = ranges_agree_by(clip, index, &filter.into());
    let apart = [2, 3, 40, linear.len() as u32 - 1];
    let read: Vec<YuvFrame> = read_frames(&clip.path, index, &apart, filter)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(read == apart.map(|frame| linear[frame as usize].clone()));
    linear
}

fn ranges_agree_by(clip: &Clip, index: &SourceIndex, restore: &Restore) -> Vec<YuvFrame> {
    let count = index.frames.len() as u32;
    let linear = read(&clip.path, index, (0, count), restore.clone());
    assert_eq!(linear.len(), count as usize);
    for (start, end) in [(1, 4), (33, 36), (47, 61), (count - 3, count)] {
        let part = read(&clip.path, index, (start, end), restore.clone());
        assert!(part == linear[start as usize..end as usize], "{start}..{end}");
    }
    linear
}

/// Every frame is proven by its own thumbnail, and none by that of the frame before it, where pictures move.
fn proven_by_its_own_thumbnail_alone(clip: &Clip, index: &SourceIndex, thumbs: &[u8], moving: (u32, u32)) {
    let proven = |(start, end): (u32, u32), first: u32| {
        let thumbs = FrameThumbs::new(first, thumbs.to_vec()).unwrap();
        let range = FrameRange { start, end };
        let reader = FrameReader::filtered(&clip.path, index, range, index.fields.filter).unwrap();
        let read: Result<Vec<YuvFrame>, _> = reader.proven_by(thumbs).unwrap().collect();
        read.map(|frames| frames.len())
    };
    let count = index.frames.len() as u32;
    assert_eq!(proven((0, count), 0).unwrap(), count as usize);
    for frame in moving.0..moving.1 {
        let refused = proven((frame, frame + 1), 1).unwrap_err();
        assert!(
            matches!(refused, MediaError::Mismatch { .. }),
            "frame {frame}: {refused}"
        );
    }
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    sum as f64 / a.len() as f64
}

#[test]
fn telecined_film_comes_back_frame_by_frame() {
    let scale = "fps=24000/1001,scale=352:240,setsar=8/9";
    let film = clip("film.mkv", &format!("-vf {scale} -c:v ffv1 -an"));
    let encode = format!("-vf {scale},telecine=pattern=23 -r 30000/1001 -g 15 {FIELDS} -c:a ac3");
    let disc = clip("disc.mkv", &encode);
    let (film, film_thumbs) = index_of(&film.path);
    let (index, thumbs) = index_of(&disc.path);
    assert_eq!(index.fields.filter, FieldFilter::Match);
    proven_by_its_own_thumbnail_alone(&disc, &index, &thumbs, (50, 51));
    let list = OutputList::of(&index, FieldChoice::Auto);
    assert!(
        list.frames.len().abs_diff(film.frames.len()) <= 1,
        "{}",
        list.frames.len()
    );
    let frames = ranges_agree(&disc, &index);
    let shown: Vec<Vec<u8>> = list
        .frames
        .iter()
        .map(|output| thumbnail(&frames[output.source as usize]))
        .collect();
    for (number, thumb) in shown.iter().enumerate().take(film.frames.len()) {
        let own = &film_thumbs[number * THUMB_BYTES..(number + 1) * THUMB_BYTES];
        let off = difference(thumb, own);
        assert!(off < 2.0, "film frame {number} is off by {off}");
    }
    let tick_s = index.video.time_base.as_f64();
    for (number, output) in list.frames.iter().enumerate() {
        let expected_s = number as f64 * 1001.0 / 24_000.0;
        let found_s = (output.pts - list.frames[0].pts) as f64 * tick_s;
        assert!(
            (found_s - expected_s).abs() < 0.002,
            "frame {number} at {found_s} s"
        );
    }
}

#[test]
fn true_interlace_is_deinterlaced_frame_for_frame() {
    // A pan of fifty pictures a second, every two of them woven into a frame.
    let encode = format!(
        "-vf fps=50,scale=480:320,crop=352:288:(iw-ow)*mod(n\\,40)/40:0,tinterlace=interleave_top,setsar=16/15 \
         -r 25 -g 12 {FIELDS} -c:a ac3"
    );
    let disc = clip("video.mkv", &encode);
    let (index, thumbs) = index_of(&disc.path);
    assert_eq!(index.fields.filter, FieldFilter::Deinterlace);
    proven_by_its_own_thumbnail_alone(&disc, &index, &thumbs, (30, 36));
    assert_eq!(
        OutputList::of(&index, FieldChoice::Auto).frames.len(),
        index.frames.len()
    );
    let whole = ranges_agree(&disc, &index);
    let count = index.frames.len() as u32;
    let woven = read(&disc.path, &index, (0, count), FieldFilter::None);
    let combs = |frames: &[YuvFrame]| frames.iter().map(combing).sum::<f64>();
    assert!(
        combs(&whole) < 0.6 * combs(&woven),
        "{} {}",
        combs(&whole),
        combs(&woven)
    );
    // Weights that say nothing make lines of the mean of others: enough to see that they are read, from any folder.
    let folder = disc.folder.path().join("it's [odd], a:b;c\\d%");
    std::fs::create_dir(&folder).unwrap();
    let weights = folder.join("nnedi3_weights.bin");
    let file = std::fs::File::create(&weights).unwrap();
    file.set_len(NNEDI_WEIGHTS_BYTES).unwrap();
    let by_nnedi = Restore {
        filter: index.fields.filter,
        nnedi_weights: Some(weights),
    };
    let invented = ranges_agree_by(&disc, &index, &by_nnedi);
    assert!(invented != whole && combs(&invented) < 0.6 * combs(&woven));
    for (frame, woven) in invented.iter().zip(&woven) {
        assert_eq!(frame.pts, woven.pts);
    }
}

/// How much lines differ from the mean of the line above and below.
fn combing(frame: &YuvFrame) -> f64 {
    let width = frame.width as usize;
    let luma: Vec<&[u16]> = frame.planes[0].chunks_exact(width).collect();
    let line = |lines: &[&[u16]]| -> f64 {
        (0..width)
            .map(|x| (f64::from(lines[0][x]) + f64::from(lines[2][x]) - 2.0 * f64::from(lines[1][x])).abs())
            .sum()
    };
    luma.windows(3).map(line).sum::<f64>() / luma.len() as f64
}

#[test]
fn whole_pictures_coded_as_fields_are_left_alone() {
    let encode = format!("-vf fps=25,scale=352:288,setsar=16/15 -g 12 {FIELDS} -c:a ac3");
    let disc = clip("pal.mkv", &encode);
    let (index, _) = index_of(&disc.path);
    assert!(index.frames.iter().all(|frame| frame.interlaced));
    assert!(index.fields.is_progressive(), "{:?}", index.fields);
}

/// Sets the flags that make players show every second film frame for three fields, as DVDs of films have them.
fn soft_telecine(stream: &mut [u8]) {
    let mut picture = 0;
    for at in 0..stream.len().saturating_sub(9) {
        if stream[at..at + 4] == [0, 0, 1, 0xB3] {
            // 30000/1001 shown frames a second.
            stream[at + 7] = stream[at + 7] & 0xF0 | 4;
        }
        if stream[at..at + 4] == [0, 0, 1, 0xB5] && stream[at + 4] >> 4 == 8 {
            let (top_first, repeat) = [(1, 1), (0, 0), (0, 1), (1, 0)][picture % 4];
            stream[at + 7] = stream[at + 7] & 0x7D | top_first << 7 | repeat << 1;
            stream[at + 8] |= 0x80;
            picture += 1;
        }
    }
}

#[test]
fn soft_telecine_goes_out_as_film_at_its_own_times() {
    let elementary = clip(
        "film.m2v",
        "-vf fps=24000/1001,scale=352:240 -an -c:v mpeg2video -b:v 3M -flags +ildct -bf 0 -g 12",
    );
    let mut bytes = std::fs::read(&elementary.path).unwrap();
    soft_telecine(&mut bytes);
    std::fs::write(&elementary.path, bytes).unwrap();
    let path = elementary.folder.path().join("disc.mpg");
    let [from, to] = [&elementary.path, &path].map(|path| path.display().to_string());
    ffmpeg(&["-i", &from, "-c", "copy", "-f", "vob", &to]);
    let (index, _) = index_of(&path);
    assert!(index.fields.is_progressive(), "{:?}", index.fields);
    let list = OutputList::of(&index, FieldChoice::Auto);
    assert!(list.frames.len().abs_diff(72) <= 1, "{}", list.frames.len());
    let gaps: Vec<i64> = list
        .frames
        .windows(2)
        .map(|pair| pair[1].pts - pair[0].pts)
        .collect();
    let (threes, twos) = (4504..=4505, 3003);
    let fits = |gap: &&i64| threes.contains(*gap) || **gap == twos;
    assert!(gaps.iter().filter(fits).count() + 2 >= gaps.len(), "{gaps:?}");
}

#[test]
fn an_index_that_is_told_to_stop_stops() {
    let encode = format!("-vf fps=25,scale=352:288 {FIELDS}");
    let disc = clip("pal.mkv", &encode);
    let mut told = 0;
    let stopped = index(&disc.path, &ContentHash::of(b""), &mut |_| {
        told += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(MediaError::Stopped)));
    assert_eq!(told, 1);
}
