//! `synthetic_prob` and `[datasets.train.degradation]`: how often, and how, LR is made from HR instead of taken from the disc.
//! Words and defaults are Real-ESRGAN's (arXiv 2107.10833, `options/train_realesrgan_x4plus.yml`); what ends in 2 is its second
//! pass. Its kernels of `kernel_list` are always these six: iso, aniso, generalized iso and aniso, plateau iso and aniso.

use serde::Deserialize;

/// Smallest and largest side of a blur kernel.
const KERNEL_SIDES_PX: std::ops::RangeInclusive<u32> = 7..=41;
/// More would need pictures far larger than the crop they are made from.
const RESIZE_MAX: f64 = 4.0;

/// Two passes of blur, resize, noise and JPEG, then a sinc filter.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Degradation {
    /// Largest side of a kernel; sides are odd, from 7.
    pub blur_kernel_size: u32,
    /// Shares of the six kinds of kernel.
    pub kernel_prob: [f64; 6],
    /// Share of sinc kernels instead of these.
    pub sinc_prob: f64,
    /// Standard deviation, HR pixels.
    pub blur_sigma: [f64; 2],
    /// Exponent of generalized kernels.
    pub betag_range: [f64; 2],
    /// Exponent of plateau kernels.
    pub betap_range: [f64; 2],
    /// Shares of enlarging, shrinking, keeping.
    pub resize_prob: [f64; 3],
    /// Least and greatest factor.
    pub resize_range: [f64; 2],
    /// Share of Gaussian noise; the rest is Poisson's.
    pub gaussian_noise_prob: f64,
    /// Standard deviation, levels of 255.
    pub noise_range: [f64; 2],
    /// Strength of Poisson noise.
    pub poisson_scale_range: [f64; 2],
    /// Share of noise that is the same in all channels.
    pub gray_noise_prob: f64,
    /// JPEG quality.
    pub jpeg_range: [f64; 2],
    /// As above, second pass.
    pub blur_kernel_size2: u32,
    /// As above, second pass.
    pub kernel_prob2: [f64; 6],
    /// As above, second pass.
    pub sinc_prob2: f64,
    /// As above, second pass.
    pub blur_sigma2: [f64; 2],
    /// As above, second pass.
    pub betag_range2: [f64; 2],
    /// As above, second pass.
    pub betap_range2: [f64; 2],
    /// How often the second pass blurs at all.
    pub second_blur_prob: f64,
    /// As above, second pass.
    pub resize_prob2: [f64; 3],
    /// As above, second pass; on top of the scale.
    pub resize_range2: [f64; 2],
    /// As above, second pass.
    pub gaussian_noise_prob2: f64,
    /// As above, second pass.
    pub noise_range2: [f64; 2],
    /// As above, second pass.
    pub poisson_scale_range2: [f64; 2],
    /// As above, second pass.
    pub gray_noise_prob2: f64,
    /// As above, second pass.
    pub jpeg_range2: [f64; 2],
    /// How often a sinc filter ends it, beside the last JPEG.
    pub final_sinc_prob: f64,
}

impl Default for Degradation {
    fn default() -> Self {
        let kernel_prob = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03];
        Self {
            blur_kernel_size: 21,
            kernel_prob,
            sinc_prob: 0.1,
            blur_sigma: [0.2, 3.0],
            betag_range: [0.5, 4.0],
            betap_range: [1.0, 2.0],
            resize_prob: [0.2, 0.7, 0.1],
            resize_range: [0.15, 1.5],
            gaussian_noise_prob: 0.5,
            noise_range: [1.0, 30.0],
            poisson_scale_range: [0.05, 3.0],
            gray_noise_prob: 0.4,
            jpeg_range: [30.0, 95.0],
            blur_kernel_size2: 21,
            kernel_prob2: kernel_prob,
            sinc_prob2: 0.1,
            blur_sigma2: [0.2, 1.5],
            betag_range2: [0.5, 4.0],
            betap_range2: [1.0, 2.0],
            second_blur_prob: 0.8,
            resize_prob2: [0.3, 0.4, 0.3],
            resize_range2: [0.3, 1.2],
            gaussian_noise_prob2: 0.5,
            noise_range2: [1.0, 25.0],
            poisson_scale_range2: [0.05, 2.5],
            gray_noise_prob2: 0.4,
            jpeg_range2: [30.0, 95.0],
            final_sinc_prob: 0.8,
        }
    }
}

/// One of the two passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// See [`Degradation::blur_kernel_size`].
    pub kernel_size_px: u32,
    /// See [`Degradation::kernel_prob`].
    pub kernel_prob: [f64; 6],
    /// See [`Degradation::sinc_prob`].
    pub sinc_prob: f64,
    /// See [`Degradation::blur_sigma`].
    pub sigma: [f64; 2],
    /// See [`Degradation::betag_range`].
    pub beta_generalized: [f64; 2],
    /// See [`Degradation::betap_range`].
    pub beta_plateau: [f64; 2],
    /// How often it blurs.
    pub blur_prob: f64,
    /// See [`Degradation::resize_prob`].
    pub resize_prob: [f64; 3],
    /// See [`Degradation::resize_range`].
    pub resize: [f64; 2],
    /// See [`Degradation::gaussian_noise_prob`].
    pub gaussian_prob: f64,
    /// See [`Degradation::noise_range`].
    pub noise: [f64; 2],
    /// See [`Degradation::poisson_scale_range`].
    pub poisson: [f64; 2],
    /// See [`Degradation::gray_noise_prob`].
    pub grey_prob: f64,
    /// See [`Degradation::jpeg_range`].
    pub jpeg: [f64; 2],
}

impl Degradation {
    /// Both passes in order.
    #[must_use]
    pub fn passes(&self) -> [Pass; 2] {
        let first = Pass {
            kernel_size_px: self.blur_kernel_size,
            kernel_prob: self.kernel_prob,
            sinc_prob: self.sinc_prob,
            sigma: self.blur_sigma,
            beta_generalized: self.betag_range,
            beta_plateau: self.betap_range,
            blur_prob: 1.0,
            resize_prob: self.resize_prob,
            resize: self.resize_range,
            gaussian_prob: self.gaussian_noise_prob,
            noise: self.noise_range,
            poisson: self.poisson_scale_range,
            grey_prob: self.gray_noise_prob,
            jpeg: self.jpeg_range,
        };
        let second = Pass {
            kernel_size_px: self.blur_kernel_size2,
            kernel_prob: self.kernel_prob2,
            sinc_prob: self.sinc_prob2,
            sigma: self.blur_sigma2,
            beta_generalized: self.betag_range2,
            beta_plateau: self.betap_range2,
            blur_prob: self.second_blur_prob,
            resize_prob: self.resize_prob2,
            resize: self.resize_range2,
            gaussian_prob: self.gaussian_noise_prob2,
            noise: self.noise_range2,
            poisson: self.poisson_scale_range2,
            grey_prob: self.gray_noise_prob2,
            jpeg: self.jpeg_range2,
        };
        [first, second]
    }

    /// Checks every number.
    ///
    /// # Errors
    /// The first that is wrong, with what was expected.
    pub fn check(&self) -> Result<(), String> {
        check_share("final_sinc_prob", self.final_sinc_prob)?;
        let [first, second] = self.passes();
        first.check().map_err(|text| format!("degradation: {text}"))?;
        let named = |text| format!("degradation, keys that end in 2: {text}");
        second.check().map_err(named)
    }
}

impl Pass {
    fn check(&self) -> Result<(), String> {
        if self.kernel_size_px.is_multiple_of(2) || !KERNEL_SIDES_PX.contains(&self.kernel_size_px) {
            let (least, most) = (KERNEL_SIDES_PX.start(), KERNEL_SIDES_PX.end());
            return Err(format!(
                "blur_kernel_size is {}, expected an odd number from {least} to {most}",
                self.kernel_size_px
            ));
        }
        for (name, share) in [
            ("sinc_prob", self.sinc_prob),
            ("second_blur_prob", self.blur_prob),
            ("gaussian_noise_prob", self.gaussian_prob),
            ("gray_noise_prob", self.grey_prob),
        ] {
            check_share(name, share)?;
        }
        check_shares("kernel_prob", &self.kernel_prob)?;
        check_shares("resize_prob", &self.resize_prob)?;
        check_range("blur_sigma", self.sigma, 0.05, 20.0)?;
        check_range("betag_range", self.beta_generalized, 0.1, 10.0)?;
        check_range("betap_range", self.beta_plateau, 0.1, 10.0)?;
        check_range("resize_range", self.resize, 0.05, RESIZE_MAX)?;
        check_range("noise_range", self.noise, 0.0, 255.0)?;
        check_range("poisson_scale_range", self.poisson, 0.0, 20.0)?;
        check_range("jpeg_range", self.jpeg, 1.0, 100.0)
    }
}

/// Checks a probability.
pub(super) fn check_share(name: &str, share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        Ok(())
    } else {
        Err(format!("{name} is {share}, expected 0 to 1"))
    }
}

fn check_shares(name: &str, shares: &[f64]) -> Result<(), String> {
    for share in shares {
        check_share(name, *share)?;
    }
    if shares.iter().sum::<f64>() > 0.0 {
        Ok(())
    } else {
        Err(format!("{name} has nothing above 0"))
    }
}

fn check_range(name: &str, [low, high]: [f64; 2], least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&low) && (low..=most).contains(&high) {
        Ok(())
    } else {
        Err(format!(
            "{name} is {low} to {high}, expected two numbers from {least} to {most}, the smaller first"
        ))
    }
}
