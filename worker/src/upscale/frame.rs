//! Makes one HD frame from one SD frame: YUV to RGB, network, RGB to dithered 10-bit YUV in BT.709.
//!
//! Frames of a segment are drawn in order, since what stands still is not made again; a segment depends on its own frames
//! alone. What is done to a drawn frame depends on that frame alone, so that another thread does it while the next one
//! is drawn.

use remaster_domain::{Geometry, Reuse, UpscaleSettings};
use remaster_media::{ColourSpec, YuvFrame, rgb_to_yuv420p10};
use remaster_pairs::{Rgb, apply_colour, resize_lanczos};

use super::grade::graded;
use super::lock::hold_colours;
use super::model::LoadedModel;
use super::network::BoundedModel;
use super::noise::{PICTURES_MEASURED, noise_levels};
use super::reuse::{Canvas, Inferred, Network};
use crate::error::WorkError;
use crate::picture::{frame_of, rgb_of};

/// Frames at the start of a segment that the noise of the source is measured on.
pub(super) const FRAMES_MEASURED: usize = PICTURES_MEASURED;

/// Draws the frames of one segment.
#[derive(Debug)]
pub(super) struct FrameMaker<'a> {
    network: BoundedModel<'a>,
    colour: ColourSpec,
    geometry: Geometry,
    canvas: Canvas,
    /// Frames drawn at a time without the canvas, where nothing is kept from frame to frame; 0 where the canvas is needed.
    whole_frames: usize,
    drawn_whole: Inferred,
}

/// A frame as the network made it, not clamped.
#[derive(Debug)]
pub(super) struct Drawn {
    index: u32,
    sd: Rgb,
    hd: Rgb,
}

impl<'a> FrameMaker<'a> {
    /// For a segment that begins with these frames, [`FRAMES_MEASURED`] or as many as there are.
    pub(super) fn start(
        network: BoundedModel<'a>,
        colour: ColourSpec,
        geometry: Geometry,
        reuse: Reuse,
        first: &[YuvFrame],
    ) -> Result<Self, WorkError> {
        let pictures = || {
            first
                .iter()
                .map(|frame| sized(rgb_of(frame, colour), geometry.input))
        };
        let levels = match reuse {
            Reuse::Off => None,
            Reuse::Within(levels) => Some(f32::from(levels)),
            Reuse::Auto => Some(noise_levels(&pictures().collect::<Vec<_>>())),
        };
        let Some(picture) = pictures().next() else {
            return Err(WorkError::Retryable("no frame was decoded".to_owned()));
        };
        tracing::debug!(levels, "differences that count as none");
        let threshold = levels.map(|levels| levels / 255.0);
        let (width, height) = (picture.width, picture.height);
        let whole_frames = match threshold {
            None => network.frames_at_once(width * height),
            Some(_) => 0,
        };
        Ok(Self {
            network,
            colour,
            geometry,
            canvas: Canvas::new(width, height, network.reach(), threshold),
            whole_frames,
            drawn_whole: Inferred::default(),
        })
    }

    /// Frames to hand over at a time.
    pub(super) fn frames_at_once(&self) -> usize {
        self.whole_frames.max(1)
    }

    /// The frames drawn, in their order; each comes with whether it starts a shot.
    pub(super) fn draw(&mut self, frames: &[(YuvFrame, bool)]) -> Result<Vec<Drawn>, WorkError> {
        let pictures = frames
            .iter()
            .map(|(frame, _)| sized(rgb_of(frame, self.colour), self.geometry.input));
        let pictures: Vec<Rgb> = pictures.collect();
        let made = if self.whole_frames > 0 {
            self.draw_whole(&pictures)
        } else {
            let shots = frames.iter().map(|&(_, starts_shot)| starts_shot);
            pictures
                .iter()
                .zip(shots)
                .map(|(picture, starts_shot)| {
                    self.canvas.update(picture, starts_shot, &self.network).cloned()
                })
                .collect()
        };
        let first = frames.first().map_or(0, |(frame, _)| frame.index);
        let made = made.map_err(|error| match error {
            WorkError::Retryable(reason) => WorkError::Retryable(format!("at frame {first}: {reason}")),
            other => other,
        })?;
        let drawn = frames.iter().zip(pictures).zip(made);
        Ok(drawn
            .map(|(((frame, _), sd), hd)| Drawn {
                index: frame.index,
                sd,
                hd,
            })
            .collect())
    }

    fn draw_whole(&mut self, pictures: &[Rgb]) -> Result<Vec<Rgb>, WorkError> {
        let area = |picture: &Rgb| (picture.width * picture.height) as u64;
        let pixels = pictures.iter().map(area).sum();
        self.drawn_whole.add(Inferred {
            pixels,
            pixels_shown: pixels,
        });
        self.network.make_all(pictures.to_vec())
    }

    /// How much was made so far.
    pub(super) fn inferred(&self) -> Inferred {
        let mut inferred = self.canvas.inferred();
        inferred.add(self.drawn_whole);
        inferred
    }
}

/// What is done to every drawn frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish<'a> {
    pub(super) model: &'a LoadedModel,
    pub(super) settings: &'a UpscaleSettings,
    /// Size of the output in pixels.
    pub(super) size: (u32, u32),
}

impl Finish<'_> {
    /// The HD frame, ready for the encoder.
    pub(super) fn frame(&self, drawn: Drawn) -> YuvFrame {
        let Drawn { index, sd, mut hd } = drawn;
        if self.settings.colour_lock {
            hd = hold_colours(&sd, hd);
        }
        if let (true, Some(cube)) = (self.settings.hd_colours, &self.model.card.colour_cube) {
            hd = apply_colour(cube, &hd);
        }
        if let Some(cube) = &self.model.cube {
            hd = graded(cube, hd);
        }
        rgb_to_yuv420p10(&frame_of(sized(hd, self.size)), ColourSpec::HD, index)
    }
}

/// The picture at a size in pixels.
pub(crate) fn sized(picture: Rgb, (width, height): (u32, u32)) -> Rgb {
    let (width, height) = (width as usize, height as usize);
    if (picture.width, picture.height) == (width, height) {
        picture
    } else {
        resize_lanczos(&picture, width, height)
    }
}
