//! Sizes in pixels on the way from a decoded SD frame through a network to the encoder: one pure function of the source, of
//! what the model's card says, and of what the user wants.

use crate::{OutputSize, PixelShape, Rational, VideoInfo};

/// Pixel aspects closer than this, as a share, are the same.
const ASPECT_TOLERANCE: f64 = 0.01;

/// The pixels that a model must be shown, as its card says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPixels {
    /// Those of the source, whatever their aspect.
    Any,
    /// The lines of the source, with pixels of this aspect.
    OfAspect(Rational),
    /// The whole frame on so many lines, with pixels of this aspect.
    OnLines {
        /// Lines.
        lines: u32,
        /// Pixel aspect.
        sar: Rational,
    },
}

impl ModelPixels {
    /// The same for a model that is shown what others make `scale` times as large.
    #[must_use]
    pub fn behind(self, scale: u32) -> Self {
        match self {
            Self::OnLines { lines, sar } => Self::OnLines {
                lines: lines.div_ceil(scale.max(1)),
                sar,
            },
            other => other,
        }
    }
}

/// Sizes on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// What the network is given: the coded size, or another one where the model knows other pixels.
    pub input: (u32, u32),
    /// What goes to the encoder; both even.
    pub output: (u32, u32),
    /// Pixel aspect of the output.
    pub sar: Rational,
}

impl Geometry {
    /// The sizes for a source and a model of those pixels and that scale. No axis ever gets fewer pixels than the model
    /// made, unless `height` asks for it.
    #[must_use]
    pub fn of(
        video: &VideoInfo,
        model: ModelPixels,
        scale: u32,
        pixels: PixelShape,
        height: Option<u32>,
    ) -> Self {
        let (width, lines) = (f64::from(video.width), f64::from(video.height));
        let sar = video.sar.as_f64();
        let input = input_size(video, model);
        let scale = f64::from(scale);
        // A source of another aspect than the model's was stretched for the model alone; on other lines it stays on them.
        let (made_width, made_lines, made_sar) = match model {
            ModelPixels::Any | ModelPixels::OfAspect(_) => (width * scale, lines * scale, sar),
            ModelPixels::OnLines { sar, .. } => (
                f64::from(input.0) * scale,
                f64::from(input.1) * scale,
                sar.as_f64(),
            ),
        };
        let even = |side: f64| 2 * ((side / 2.0).round().max(1.0) as u32);
        let scaled = |lines: f64, shape: f64| (even(lines * shape), even(lines));
        let output = match (pixels, height) {
            (PixelShape::Square, Some(height)) => scaled(height.into(), width * sar / lines),
            (PixelShape::Square, None) if (made_sar - 1.0).abs() < ASPECT_TOLERANCE => {
                (even(made_width), even(made_lines))
            }
            (PixelShape::Square, None) if made_sar > 1.0 => (even(made_width * made_sar), even(made_lines)),
            (PixelShape::Square, None) => (even(made_width), even(made_lines / made_sar)),
            (PixelShape::Source, Some(height)) => scaled(height.into(), width / lines),
            (PixelShape::Source, None) => scaled(made_lines.max(made_width * lines / width), width / lines),
        };
        Self {
            input,
            output,
            sar: pixels.sar(video),
        }
    }

    /// The same picture as large as fits into a size, its shape kept: no bars, nothing stretched.
    #[must_use]
    pub fn within(self, size: OutputSize) -> Self {
        let (width, height) = (f64::from(self.output.0), f64::from(self.output.1));
        let factor = (f64::from(size.width) / width).min(f64::from(size.height) / height);
        let even = |side: f64| 2 * ((side * factor / 2.0).round().max(1.0) as u32);
        Self {
            output: (even(width), even(height)),
            ..self
        }
    }
}

/// What the network is given.
fn input_size(video: &VideoInfo, model: ModelPixels) -> (u32, u32) {
    let (lines, sar) = match model {
        ModelPixels::Any => (video.height, video.sar),
        ModelPixels::OfAspect(sar) => (video.height, sar),
        ModelPixels::OnLines { lines, sar } => (lines.max(1), sar),
    };
    let stretch = video.sar.as_f64() / sar.as_f64();
    let stretch = if lines == video.height && (stretch - 1.0).abs() < ASPECT_TOLERANCE {
        1.0
    } else {
        stretch
    };
    let width = f64::from(video.width) * stretch * f64::from(lines) / f64::from(video.height);
    (width.round().max(1.0) as u32, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(width: u32, height: u32, num: i64, den: i64) -> VideoInfo {
        let rational = |num, den| Rational { num, den };
        VideoInfo {
            codec: "mpeg2video".to_owned(),
            width,
            height,
            pix_fmt: "yuv420p".to_owned(),
            sar: rational(num, den),
            frame_rate: rational(25, 1),
            time_base: rational(1, 1000),
            matrix: None,
            range: None,
        }
    }

    const SQUARE: Rational = Rational { num: 1, den: 1 };

    #[test]
    fn pixels_become_square_without_losing_any() {
        let square = |video: VideoInfo, scale, height| {
            Geometry::of(&video, ModelPixels::Any, scale, PixelShape::Square, height).output
        };
        assert_eq!(square(video(720, 576, 64, 45), 2, None), (2048, 1152));
        assert_eq!(square(video(720, 480, 8, 9), 2, None), (1440, 1080));
        assert_eq!(square(video(720, 576, 16, 15), 2, Some(1080)), (1440, 1080));
        assert_eq!(square(video(720, 480, 32, 27), 4, Some(1080)), (1920, 1080));
        assert_eq!(square(video(853, 480, 1, 1), 2, None), (1706, 960));
        let wide = video(720, 576, 64, 45);
        let kept = Geometry::of(&wide, ModelPixels::Any, 2, PixelShape::Source, None);
        assert_eq!(
            (kept.input, kept.output, kept.sar.num),
            ((720, 576), (1440, 1152), 64)
        );
    }

    #[test]
    fn a_size_is_filled_as_far_as_the_shape_allows() {
        let within = |video: &VideoInfo, pixels, size: &str| {
            let own = Geometry::of(video, ModelPixels::Any, 2, pixels, None);
            own.within(size.parse().expect("a size")).output
        };
        let (full, wide) = (video(720, 576, 16, 15), video(720, 576, 64, 45));
        assert_eq!(within(&full, PixelShape::Square, "1920x1080"), (1440, 1080));
        assert_eq!(within(&wide, PixelShape::Square, "1920x1080"), (1920, 1080));
        assert_eq!(within(&wide, PixelShape::Square, "1280x1080"), (1280, 720));
        assert_eq!(within(&wide, PixelShape::Source, "1920x1080"), (1350, 1080));
    }

    #[test]
    fn a_model_of_another_pixel_aspect_gets_the_one_it_knows() {
        let video = video(720, 576, 16, 15);
        let input = |num, den| {
            let known = ModelPixels::OfAspect(Rational { num, den });
            Geometry::of(&video, known, 2, PixelShape::Square, None).input
        };
        assert_eq!(input(64, 45), (540, 576));
        assert_eq!(input(16, 15), (720, 576));
        assert_eq!(input(1067, 1000), (720, 576));
    }

    #[test]
    fn a_model_of_hd_pixels_gets_square_ones_on_the_lines_that_it_knows() {
        let known = ModelPixels::OnLines {
            lines: 540,
            sar: SQUARE,
        };
        let of = |video: &VideoInfo, pixels, height| Geometry::of(video, known, 2, pixels, height);
        let wide = of(&video(720, 576, 64, 45), PixelShape::Square, None);
        assert_eq!((wide.input, wide.output), ((960, 540), (1920, 1080)));
        let full = of(&video(720, 576, 16, 15), PixelShape::Square, None);
        assert_eq!((full.input, full.output), ((720, 540), (1440, 1080)));
        let ntsc = of(&video(720, 480, 32, 27), PixelShape::Square, Some(720));
        assert_eq!((ntsc.input, ntsc.output), ((960, 540), (1280, 720)));
        let kept = of(&video(720, 576, 64, 45), PixelShape::Source, None);
        assert_eq!((kept.output, kept.sar.num), ((1920, 1536), 64));
    }

    #[test]
    fn a_model_behind_others_gets_its_lines_from_them() {
        let known = ModelPixels::OnLines {
            lines: 540,
            sar: SQUARE,
        };
        let video = video(720, 576, 64, 45);
        let behind = Geometry::of(&video, known.behind(2), 4, PixelShape::Square, None);
        assert_eq!((behind.input, behind.output), ((480, 270), (1920, 1080)));
        assert_eq!(ModelPixels::Any.behind(2), ModelPixels::Any);
    }
}
