//! Makes a simulated disc from masters: which frame shows what, where the picture lies, what was done to its colours and
//! fields, how it was coded. Geometry is done in RGB, since 4:2:0 rounds odd shifts without a word.
//!
//! A disc is a list of what each of its frames shows; that list is the truth that pairs are judged by.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use remaster_domain::{ActiveArea, MaskRect, Transform};
use remaster_pairs::{Rgb, warp_hd_to_sd_lattice};

use super::film::{Film, HD_HEIGHT_PX, HD_WIDTH_PX};

/// Columns of the simulated DVD: to the Blu-ray's as PAL's to 1080p's.
pub(super) const SD_WIDTH_PX: usize = 360;
/// Lines of the simulated DVD.
pub(super) const SD_HEIGHT_PX: usize = 288;
const HD_SIZE_PX: (usize, usize) = (HD_WIDTH_PX, HD_HEIGHT_PX);

/// What one frame of a disc shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shown {
    /// A master, whole.
    Film(usize),
    /// Nothing.
    Black,
    /// Even lines of one master and odd lines of another.
    Woven(usize, usize),
    /// Two masters over each other, with the share of the second.
    Blend(usize, usize, f32),
}

impl Shown {
    /// The master that it shows, or shows most of.
    pub(super) const fn film(self) -> Option<usize> {
        match self {
            Self::Film(frame) | Self::Woven(frame, _) | Self::Blend(frame, ..) => Some(frame),
            Self::Black => None,
        }
    }
}

/// What was done to the colours of the DVD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grade {
    /// Nothing.
    None,
    /// A 3x4 matrix.
    Matrix([[f32; 4]; 3]),
    /// A power of every channel.
    Gamma(f32),
}

/// Something that only the DVD shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Overlay {
    /// Where, in SD pixels.
    pub(super) place: MaskRect,
    /// On every frame with `number % period < on`.
    pub(super) period: usize,
    /// See `period`.
    pub(super) on: usize,
}

/// What the frames of a disc lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// Matroska, from 0 on: whole milliseconds.
    Matroska,
    /// A DVD's own, from 7 s on.
    ProgramStream,
    /// A Blu-ray's own, from 600 s on, of open GOPs.
    TransportStream,
}

impl Container {
    /// What ffmpeg is told to write it.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Matroska => &["-f", "matroska"],
            Self::ProgramStream => &["-f", "vob", "-output_ts_offset", "7"],
            Self::TransportStream => &[
                "-x264-params",
                "open-gop=1",
                "-bf",
                "2",
                "-f",
                "mpegts",
                "-mpegts_m2ts_mode",
                "1",
                "-output_ts_offset",
                "600",
            ],
        }
    }
}

/// A coded frame that is not in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostPacket {
    /// Its number in coding order.
    pub(super) packet: usize,
    /// Its number on the screen.
    pub(super) frame: usize,
    /// Frames, counted without it, that are decoded from what is not there.
    pub(super) broken: Range<usize>,
}

/// The DVD of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DvdPlan {
    /// Frame by frame.
    pub(super) frames: Vec<Shown>,
    /// Where an SD pixel lies in the master.
    pub(super) transform: Transform,
    /// SD pixels that carry picture.
    pub(super) active: ActiveArea,
    /// Colours.
    pub(super) grade: Grade,
    /// Deviation of added noise in levels.
    pub(super) noise_levels: f32,
    /// Logo or subtitle.
    pub(super) overlay: Option<Overlay>,
    /// YUV matrix it is coded with, as zscale names it; its tags always say BT.601.
    pub(super) matrix: &'static str,
    /// `limited` or `full`, as zscale names it.
    pub(super) range: &'static str,
    /// Codes and flags the frames as interlaced, with chroma of its own for each field.
    pub(super) interlaced: bool,
    /// Geometry by this filter of ffmpeg instead of by `transform`: a second opinion on what a transform means.
    pub(super) ffmpeg_geometry: Option<&'static str>,
    /// Kilobits a second.
    pub(super) kbits: u32,
    /// What its frames lie in.
    pub(super) container: Container,
    /// A frame that was lost.
    pub(super) lost: Option<LostPacket>,
}

/// The transform of a DVD that shows the whole master on all its pixels.
pub(super) fn whole_picture() -> Transform {
    Transform {
        sx: HD_WIDTH_PX as f64 / SD_WIDTH_PX as f64,
        sy: HD_HEIGHT_PX as f64 / SD_HEIGHT_PX as f64,
        tx: 0.0,
        ty: 0.0,
    }
}

/// All pixels of the DVD.
pub(super) fn whole_area() -> ActiveArea {
    ActiveArea {
        x: 0,
        y: 0,
        width: SD_WIDTH_PX as u32,
        height: SD_HEIGHT_PX as u32,
    }
}

impl DvdPlan {
    /// What a decoder makes of it, frame by frame; a broken frame shows nothing that a pair may show.
    pub(super) fn as_decoded(&self) -> Vec<Shown> {
        let mut frames = self.frames.clone();
        if let Some(LostPacket { frame, broken, .. }) = &self.lost {
            frames.remove(*frame);
            frames[broken.clone()].fill(Shown::Black);
        }
        frames
    }

    /// Writes the DVD.
    pub(super) fn write(&self, film: &Film, file: &Path) -> anyhow::Result<()> {
        let depth = format!("{}k", self.kbits);
        let colour = if self.interlaced {
            "scale=interl=1:flags=bicubic+accurate_rnd+full_chroma_inp:out_color_matrix=bt601:out_range=tv"
                .to_owned()
        } else {
            zscale(self.matrix, self.range)
        };
        let mut codec = vec![
            "-c:v",
            "mpeg2video",
            "-b:v",
            &depth,
            "-maxrate",
            "9000k",
            "-bufsize",
            "1835k",
        ];
        codec.extend([
            "-g",
            "12",
            "-bf",
            "2",
            "-colorspace",
            "bt470bg",
            "-color_range",
            "tv",
        ]);
        if self.interlaced {
            codec.extend(["-flags", "+ilme+ildct", "-top", "1"]);
        }
        let drop = self
            .lost
            .as_ref()
            .map(|lost| format!("noise=drop=eq(n\\,{})", lost.packet));
        if let Some(drop) = &drop {
            codec.extend(["-bsf:v", drop]);
        }
        codec.extend(self.container.options());
        if let Some(geometry) = self.ffmpeg_geometry {
            let filter = format!("{geometry},{colour}");
            return write_frames(
                film,
                &self.frames,
                Encoder::start(HD_SIZE_PX, "25", &filter, &codec, file)?,
            );
        }
        let mut encoder = Encoder::start((SD_WIDTH_PX, SD_HEIGHT_PX), "25", &colour, &codec, file)?;
        let mut clean = BTreeMap::new();
        for (number, shown) in self.frames.iter().enumerate() {
            let picture = self.picture(film, *shown, number, &mut clean);
            encoder.push(&packed(&picture))?;
        }
        encoder.finish()
    }

    fn picture(&self, film: &Film, shown: Shown, number: usize, clean: &mut BTreeMap<usize, Rgb>) -> Rgb {
        let mut whole = |frame: usize| {
            // Frames come nearly in order: a short memory saves most of the second warps.
            if clean.len() > 8 {
                clean.pop_first();
            }
            let make = || warp_hd_to_sd_lattice(&film.picture(frame), &self.transform, whole_area(), 1);
            clean.entry(frame).or_insert_with(make).clone()
        };
        let mut picture = match shown {
            Shown::Film(frame) => whole(frame),
            Shown::Black => Rgb::new(
                SD_WIDTH_PX,
                SD_HEIGHT_PX,
                vec![0.0; 3 * SD_WIDTH_PX * SD_HEIGHT_PX],
            ),
            Shown::Woven(even, odd) => mixed(&whole(even), &whole(odd), |line| (line % 2) as f32),
            Shown::Blend(a, b, share) => mixed(&whole(a), &whole(b), |_| share),
        };
        graded(&mut picture, self.grade);
        self.add_overlay(&mut picture, number);
        self.add_noise(&mut picture, number);
        self.clear_border(&mut picture);
        picture
    }

    /// A checked box: what logos and letters have in common is contrast.
    fn add_overlay(&self, picture: &mut Rgb, number: usize) {
        let Some(overlay) = self.overlay.filter(|o| number % o.period < o.on) else {
            return;
        };
        let MaskRect { x, y, width, height } = overlay.place;
        for line in y..y + height {
            for column in x..x + width {
                let is_ink = (line / 4 + column / 6).is_multiple_of(2);
                let level = if is_ink { 0.95 } else { 0.1 };
                for channel in 0..3 {
                    set(picture, channel, column as usize, line as usize, level);
                }
            }
        }
    }

    fn add_noise(&self, picture: &mut Rgb, number: usize) {
        if self.noise_levels <= 0.0 {
            return;
        }
        for (i, value) in picture.data.iter_mut().enumerate() {
            // Four uniform numbers are near enough to a bell, and their deviation is known.
            let seed = (number * 10_000_019 + i) as u64;
            let sum: f32 = (0..4).map(|k| uniform(seed * 4 + k)).sum();
            *value += sum * (3.0f32 / 4.0).sqrt() * self.noise_levels / 255.0;
        }
    }

    fn clear_border(&self, picture: &mut Rgb) {
        let ActiveArea { x, y, width, height } = self.active;
        for line in 0..SD_HEIGHT_PX {
            for column in 0..SD_WIDTH_PX {
                let (dx, dy) = ((column as u32).wrapping_sub(x), (line as u32).wrapping_sub(y));
                if dx >= width || dy >= height {
                    for channel in 0..3 {
                        set(picture, channel, column, line, 0.0);
                    }
                }
            }
        }
    }
}

/// Writes the Blu-ray of a case.
pub(super) fn write_bluray(
    film: &Film,
    frames: &[Shown],
    container: Container,
    file: &Path,
) -> anyhow::Result<()> {
    let mut codec = vec![
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-crf",
        "10",
        "-g",
        "24",
        "-colorspace",
        "bt709",
    ];
    codec.extend(container.options());
    let encoder = Encoder::start(HD_SIZE_PX, "24000/1001", &zscale("709", "limited"), &codec, file)?;
    write_frames(film, frames, encoder)
}

fn write_frames(film: &Film, frames: &[Shown], mut encoder: Encoder) -> anyhow::Result<()> {
    let black = vec![0; 3 * HD_WIDTH_PX * HD_HEIGHT_PX];
    for shown in frames {
        match shown {
            Shown::Film(frame) => encoder.push(film.bytes(*frame))?,
            _ => encoder.push(&black)?,
        }
    }
    encoder.finish()
}

/// The filter that turns RGB into the codes of a disc.
fn zscale(matrix: &str, range: &str) -> String {
    format!(
        "zscale=matrixin=gbr:rangein=full:chromal=left:dither=error_diffusion:matrix={matrix}:range={range}"
    )
}

/// ffmpeg that takes packed RGB.
struct Encoder {
    child: std::process::Child,
    pipe: std::process::ChildStdin,
}

impl Encoder {
    fn start(
        size: (usize, usize),
        rate: &str,
        colour: &str,
        codec: &[&str],
        file: &Path,
    ) -> anyhow::Result<Self> {
        let filter = format!("format=gbrp,{colour},format=yuv420p");
        let mut child = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
            .args([
                "-s",
                &format!("{}x{}", size.0, size.1),
                "-r",
                rate,
                "-i",
                "pipe:0",
            ])
            .args(["-vf", &filter])
            .args(codec)
            .arg(file)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run ffmpeg")?;
        let pipe = child.stdin.take().context("stdin was piped above")?;
        Ok(Self { child, pipe })
    }

    fn push(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.pipe.write_all(frame).context("ffmpeg takes no more frames")
    }

    fn finish(mut self) -> anyhow::Result<()> {
        drop(self.pipe);
        ensure!(self.child.wait()?.success(), "ffmpeg could not write a disc");
        Ok(())
    }
}

fn mixed(a: &Rgb, b: &Rgb, share_of_b: impl Fn(usize) -> f32) -> Rgb {
    let line = |i: usize| i / a.width % a.height;
    let mix = |(i, (x, y)): (usize, (&f32, &f32))| x + (y - x) * share_of_b(line(i));
    let data = a.data.iter().zip(&b.data).enumerate().map(mix).collect();
    Rgb::new(a.width, a.height, data)
}

fn graded(picture: &mut Rgb, grade: Grade) {
    match grade {
        Grade::None => {}
        Grade::Gamma(power) => picture
            .data
            .iter_mut()
            .for_each(|v| *v = v.clamp(0.0, 1.0).powf(power)),
        Grade::Matrix(rows) => {
            let size = picture.width * picture.height;
            for i in 0..size {
                let [r, g, b] = [0, 1, 2].map(|c| picture.data[c * size + i]);
                for (c, row) in rows.iter().enumerate() {
                    picture.data[c * size + i] = row[0] * r + row[1] * g + row[2] * b + row[3];
                }
            }
        }
    }
}

fn set(picture: &mut Rgb, channel: usize, x: usize, y: usize, value: f32) {
    let at = (channel * picture.height + y) * picture.width + x;
    picture.data[at] = value;
}

fn packed(picture: &Rgb) -> Vec<u8> {
    let (red, green, blue) = (picture.channel(0), picture.channel(1), picture.channel(2));
    let code = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
    (0..red.len())
        .flat_map(|i| [code(red[i]), code(green[i]), code(blue[i])])
        .collect()
}

/// A number in -1..1 that depends on the seed alone.
fn uniform(seed: u64) -> f32 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
