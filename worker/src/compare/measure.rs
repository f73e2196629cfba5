//! Measures one method after the other on the same frames of the HD grid.

use remaster_domain::{Alignment, ColourTransform, Geometry, PixelShape, Transform};
use remaster_pairs::{
    Rgb, apply_colour, colour_samples, fit_colour, psnr_y, resize_lanczos, ssim_y, warp_sd_to_hd,
};
use serde::Serialize;

use crate::context::Disc;
use crate::error::WorkError;
use crate::extract::PairFrames;
use crate::monitor::Monitor;
use crate::picture::{level, rgb_of};
use crate::upscale::{LoadedModel, sized, upscale_picture};

/// HD pixels left out along the edge of what SD covers: filters see beyond it.
const EDGE_PX: f64 = 12.0;

/// A way from SD to a larger picture.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: String,
    pub(super) scale: u32,
    /// `None` for Lanczos.
    pub(super) model: Option<LoadedModel>,
}

/// What was measured of a method.
#[derive(Debug, Serialize)]
pub(super) struct MethodReport {
    name: String,
    psnr_y_db: f64,
    ssim: f64,
}

/// A rectangle of the HD grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The frames and all that is the same for every method.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    sd: &'a Disc,
    hd: &'a Disc,
    alignment: &'a Alignment,
    frames: &'a [PairFrames],
    covered: Covered,
    colour: ColourTransform,
}

/// Takes the picture that a method made of a frame, and the HD frame.
type Seen<'a> = dyn FnMut(usize, &Rgb, &Rgb) -> Result<(), WorkError> + 'a;

impl<'a> Bench<'a> {
    /// Fits the colours on Lanczos.
    pub(super) fn new(
        sd: &'a Disc,
        hd: &'a Disc,
        alignment: &'a Alignment,
        frames: &'a [PairFrames],
    ) -> Result<Self, WorkError> {
        let covered = covered(alignment, hd.index.video.width, hd.index.video.height).ok_or_else(|| {
            WorkError::BadInput(
                "the sd picture covers too little of the hd picture to compare them".to_owned(),
            )
        })?;
        let mut bench = Self {
            sd,
            hd,
            alignment,
            frames,
            covered,
            colour: ColourTransform::IDENTITY,
        };
        let lanczos = Method {
            name: String::new(),
            scale: alignment.scale,
            model: None,
        };
        let mut samples = Vec::new();
        for frame in frames {
            let made = bench.cut(&bench.on_hd_grid(&lanczos, frame)?);
            samples.extend(colour_samples(&made, &bench.cut(&bench.hd_picture(frame))));
        }
        match fit_colour(&samples) {
            Some(fit) => bench.colour = fit,
            None => tracing::warn!("too few flat blocks to fit colours, they are compared as they are"),
        }
        Ok(bench)
    }

    /// What SD covers of the HD grid.
    pub(super) const fn covered(&self) -> Covered {
        self.covered
    }

    /// Moves SD colours to HD colours.
    pub(super) const fn colour(&self) -> ColourTransform {
        self.colour
    }

    /// Measures a method on all frames; `seen` gets whole pictures in HD colours at 8 bits.
    pub(super) fn measure(
        &self,
        method: &Method,
        monitor: &Monitor,
        seen: &mut Seen<'_>,
    ) -> Result<MethodReport, WorkError> {
        let (mut psnr, mut ssim) = (0.0, 0.0);
        for (number, frame) in self.frames.iter().enumerate() {
            monitor.check()?;
            let made = rounded(apply_colour(&self.colour, &self.on_hd_grid(method, frame)?));
            let truth = rounded(self.hd_picture(frame));
            let (made_part, truth_part) = (self.cut(&made), self.cut(&truth));
            psnr += psnr_y(&made_part, &truth_part, 0);
            ssim += ssim_y(&made_part, &truth_part, 0);
            seen(number, &made, &truth)?;
            monitor.report(number as u64 + 1, self.frames.len() as u64, &method.name);
        }
        let count = self.frames.len() as f64;
        Ok(MethodReport {
            name: method.name.clone(),
            psnr_y_db: psnr / count,
            ssim: ssim / count,
        })
    }

    fn on_hd_grid(&self, method: &Method, frame: &PairFrames) -> Result<Rgb, WorkError> {
        let sd = rgb_of(frame.sd_frame(), self.sd.colour);
        let (scale, size) = (method.scale as usize, (sd.width, sd.height));
        let mut larger = match &method.model {
            None => resize_lanczos(&sd, sd.width * scale, sd.height * scale),
            Some(model) => upscale_picture(sized(sd, self.input_of(model)), model)?,
        };
        larger
            .data
            .iter_mut()
            .for_each(|value| *value = value.clamp(0.0, 1.0));
        let (width, height) = (
            self.hd.index.video.width as usize,
            self.hd.index.video.height as usize,
        );
        Ok(warp_sd_to_hd(
            &larger,
            &self.alignment.transform_at(frame.choice.sd),
            size,
            (width, height),
        ))
    }

    /// The pixels that a model is shown when it upscales such a disc.
    fn input_of(&self, model: &LoadedModel) -> (u32, u32) {
        let video = &self.sd.index.video;
        Geometry::of(
            video,
            model.card.pixels(),
            model.card.scale,
            PixelShape::Source,
            None,
        )
        .input
    }

    fn hd_picture(&self, frame: &PairFrames) -> Rgb {
        rgb_of(frame.hd_frame(), self.hd.colour)
    }

    fn cut(&self, picture: &Rgb) -> Rgb {
        let Covered { x, y, width, height } = self.covered;
        picture.crop(x, y, width, height)
    }
}

/// Published figures are of 8-bit pictures.
fn rounded(mut picture: Rgb) -> Rgb {
    picture
        .data
        .iter_mut()
        .for_each(|value| *value = f32::from(level(*value)) / 255.0);
    picture
}

/// What SD covers wherever in the episode a frame lies: stretches with a geometry of their own count as well.
fn covered(alignment: &Alignment, width: u32, height: u32) -> Option<Covered> {
    let active = alignment.active;
    let moved = alignment.moved.iter().map(|stretch| stretch.transform);
    let transforms: Vec<Transform> = std::iter::once(alignment.transform).chain(moved).collect();
    let span = |line: fn(&Transform) -> (f64, f64), first: u32, count: u32, size: u32| {
        let at = |t: &Transform, place: u32| line(t).0 * f64::from(place) + line(t).1;
        let starts = transforms.iter().map(|t| at(t, first));
        let ends = transforms.iter().map(|t| at(t, first + count));
        let start = (starts.fold(0.0, f64::max) + EDGE_PX).ceil() as usize;
        let end = (ends.fold(f64::from(size), f64::min) - EDGE_PX).floor().max(0.0) as usize;
        (end > start + 2 * EDGE_PX as usize).then(|| (start, end - start))
    };
    let (x, width) = span(|t| (t.sx, t.tx), active.x, active.width, width)?;
    let (y, height) = span(|t| (t.sy, t.ty), active.y, active.height, height)?;
    Some(Covered { x, y, width, height })
}

#[cfg(test)]
mod tests {
    use remaster_domain::{ActiveArea, FrameRange, Lattice, MovedStretch};

    use super::*;

    fn alignment() -> Alignment {
        Alignment {
            version: 1,
            lattice: Lattice::SdNative,
            scale: 2,
            segments: Vec::new(),
            transform: Transform {
                sx: 2.5,
                sy: 2.0,
                tx: -3.0,
                ty: -2.0,
            },
            colour: ColourTransform::IDENTITY,
            curves: None,
            active: ActiveArea {
                x: 0,
                y: 1,
                width: 480,
                height: 383,
            },
            moved: Vec::new(),
            coding: None,
            fields: remaster_domain::FieldFilter::None,
        }
    }

    #[test]
    fn a_dead_row_is_not_measured() {
        let alignment = alignment();
        let found = covered(&alignment, 1280, 720);
        assert_eq!(
            found,
            Some(Covered {
                x: 12,
                y: 12,
                width: 1173,
                height: 696
            })
        );
        assert_eq!(covered(&alignment, 30, 720), None);
    }

    #[test]
    fn what_a_moved_stretch_does_not_cover_is_not_measured() {
        let mut alignment = alignment();
        alignment.moved.push(MovedStretch {
            sd: FrameRange { start: 50, end: 90 },
            transform: Transform {
                tx: 20.0,
                ty: -10.0,
                ..alignment.transform
            },
        });
        let found = covered(&alignment, 1280, 720);
        assert_eq!(
            found,
            Some(Covered {
                x: 32,
                y: 12,
                width: 1153,
                height: 696
            })
        );
    }
}
