//! The networks: RRDBNet, Compact, both discriminators and VGG features, with their weights in and out.
//!
//! extract -> store -> **train -> publish -> upscale**: training, publishing and upscaling build the same network
//! from the same card, so what was trained is what runs.
//!
//! Left to others: data, losses and the loop (trainer), decoding and tiling (worker). Only this crate names a
//! backend; everybody else holds burn's runtime `Device`.

mod compact;
mod conv;
mod device;
mod discriminator;
mod dists;
mod error;
mod generator;
mod import;
mod infer;
mod layers;
#[cfg(feature = "tch")]
mod libtorch;
mod lpips;
#[cfg(feature = "tch")]
mod native;
mod onnx;
mod precision;
mod resample;
mod rrdbnet;
mod seeded;
mod state;
mod trunk;
mod unet_discriminator;
mod vgg;
mod vgg_discriminator;
mod weights;

pub use compact::{Compact, CompactConfig};
pub use conv::{Conv, ConvConfig};
pub use device::{DeviceKind, device, keep_freed_memory, set_threads};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use dists::Dists;
pub use error::ModelError;
pub use generator::Generator;
pub use import::{ImportedWeights, WeightsFormat, decode_weights, read_tensors, read_weights};
pub use infer::{PART_SIDE_MIN_PX, RgbBatch, upscale_rgb};
pub use lpips::Lpips;
pub use onnx::encode_onnx;
pub use precision::Rounded;
pub use rrdbnet::{RrdbNet, RrdbNetConfig};
pub use seeded::Seeded;
pub use state::{HostTensor, ParamPath, StateDict, read_state, write_state};
pub use trunk::LIKENESS_SIDE_MIN_PX;
pub use unet_discriminator::{UnetDiscriminator, UnetDiscriminatorConfig};
pub use vgg::{Vgg19, VggTap};
pub use vgg_discriminator::{VggDiscriminator, VggDiscriminatorConfig};
pub use weights::{decode_safetensors, encode_safetensors, fill_model, infer_arch, load_model};
