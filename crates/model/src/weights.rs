//! Weights as safetensors bytes with BasicSR's keys, and the network that a set of keys belongs to. Equal weights
//! give equal bytes: a model's id is the hash of its file.

use burn::tensor::Device;
use remaster_domain::{ModelArch, ModelCard};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{Generator, HostTensor, ModelError, StateDict, write_state};

/// The file of these parameters; the same parameters always give the same bytes.
#[must_use]
pub fn encode_safetensors(state: &StateDict) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = state
        .values()
        .map(|tensor| {
            tensor
                .values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let views = state.iter().zip(&bytes).map(|((key, tensor), bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)
            .expect("a host tensor has as many values as its shape says");
        (key.as_str(), view)
    });
    safetensors::serialize(views, None).expect("sorted unique keys with matching lengths")
}

/// The parameters of a file; half precision is widened.
///
/// # Errors
/// [`ModelError::Format`] for anything but safetensors with floats in it.
pub fn decode_safetensors(bytes: &[u8]) -> Result<StateDict, ModelError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| ModelError::Format(format!("no readable safetensors file: {error}")))?;
    file.iter()
        .map(|(key, view)| Ok((key.to_owned(), widen(key, &view)?)))
        .collect()
}

/// Builds the network that a card describes and fills it with its weights.
///
/// # Errors
/// [`ModelError`] when the card names no network or the weights are of another one.
pub fn load_model(weights: &[u8], card: &ModelCard, device: &Device) -> Result<Generator, ModelError> {
    fill_model(&decode_safetensors(weights)?, &card.arch, card.scale, device)
}

/// Builds a network and fills it with parameters.
///
/// # Errors
/// [`ModelError`] when there is no such network, or [`ModelError::Mismatch`] with every key that does not fit.
pub fn fill_model(
    state: &StateDict,
    arch: &ModelArch,
    scale: u32,
    device: &Device,
) -> Result<Generator, ModelError> {
    check_size(arch, scale, state)?;
    write_state(Generator::blank(arch, scale, device)?, state)
}

/// Refuses a network far larger than its weights, before memory is asked for it: the numbers of blocks and features
/// come from a file, and a name such as `body.999999999.weight` costs its author nothing.
///
/// # Errors
/// [`ModelError::Unknown`] with both sizes.
pub(crate) fn check_size(arch: &ModelArch, scale: u32, state: &StateDict) -> Result<(), ModelError> {
    let found: u64 = state.values().map(|tensor| tensor.values.len() as u64).sum();
    let expected = weight_count(arch, scale);
    if expected > found.saturating_mul(2) {
        let text = format!("their shapes promise {expected} values and there are {found}");
        return Err(ModelError::Unknown(text));
    }
    Ok(())
}

/// Values of all convolutions but the few at the ends.
fn weight_count(arch: &ModelArch, scale: u32) -> u64 {
    let product = |factors: &[u64]| {
        factors
            .iter()
            .fold(1u64, |product, &factor| product.saturating_mul(factor))
    };
    match *arch {
        ModelArch::RrdbNet {
            num_feat,
            num_block,
            num_grow_ch,
            ..
        } => {
            let (nf, gc) = (u64::from(num_feat), u64::from(num_grow_ch));
            let growing = (0..4u64).map(|known| product(&[nf.saturating_add(known * gc), gc]));
            let joining = product(&[nf.saturating_add(4 * gc), nf]);
            let dense = growing.fold(joining, u64::saturating_add);
            product(&[3, 9, u64::from(num_block), dense])
        }
        ModelArch::Compact { num_feat, num_conv } => {
            let (nf, scale) = (u64::from(num_feat), u64::from(scale));
            let middle = product(&[9, u64::from(num_conv), nf, nf]);
            middle.saturating_add(product(&[27, nf, scale, scale]))
        }
    }
}

/// The network that parameters belong to, and its scale.
///
/// # Errors
/// [`ModelError::Unknown`] when they are of no network known here.
pub fn infer_arch(state: &StateDict) -> Result<(ModelArch, u32), ModelError> {
    if state.contains_key("conv_first.weight") {
        infer_rrdbnet(state)
    } else if state.contains_key("body.0.weight") {
        infer_compact(state)
    } else {
        let first: Vec<_> = state.keys().take(3).cloned().collect();
        Err(ModelError::Unknown(format!("keys like {}", first.join(", "))))
    }
}

fn infer_rrdbnet(state: &StateDict) -> Result<(ModelArch, u32), ModelError> {
    let first = shape_of(state, "conv_first.weight")?;
    let grown = shape_of(state, "body.0.rdb1.conv1.weight")?;
    let unshuffle = match first[1] {
        3 => 1,
        12 => 2,
        48 => 4,
        other => return Err(ModelError::Unknown(format!("conv_first takes {other} channels"))),
    };
    let num_block = highest_index(state, "body.").unwrap_or(0).saturating_add(1);
    let doublings = (1..=3)
        .filter(|n| state.contains_key(&format!("conv_up{n}.weight")))
        .count();
    let upsampling = 1u32 << doublings;
    if upsampling < unshuffle {
        return Err(ModelError::Unknown(
            "fewer upsamplers than its unshuffle needs".into(),
        ));
    }
    let arch = ModelArch::RrdbNet {
        num_feat: first[0] as u32,
        num_block: u32::try_from(num_block).unwrap_or(u32::MAX),
        num_grow_ch: grown[0] as u32,
        unshuffle,
    };
    Ok((arch, upsampling / unshuffle))
}

fn infer_compact(state: &StateDict) -> Result<(ModelArch, u32), ModelError> {
    let first = shape_of(state, "body.0.weight")?;
    let last = highest_index(state, "body.").unwrap_or(0);
    let out = shape_of(state, &format!("body.{last}.weight"))?[0];
    let scale = (1..=8).find(|scale| 3 * scale * scale == out);
    let Some(scale) = scale.filter(|_| last >= 2) else {
        return Err(ModelError::Unknown(format!("its last layer has {out} channels")));
    };
    let arch = ModelArch::Compact {
        num_feat: first[0] as u32,
        num_conv: u32::try_from((last - 2) / 2).unwrap_or(u32::MAX),
    };
    Ok((arch, scale as u32))
}

fn shape_of<'a>(state: &'a StateDict, key: &str) -> Result<&'a [usize], ModelError> {
    match state.get(key) {
        Some(tensor) if tensor.shape.len() == 4 => Ok(&tensor.shape),
        Some(_) => Err(ModelError::Unknown(format!("{key} is not a convolution"))),
        None => Err(ModelError::Unknown(format!("there is no {key}"))),
    }
}

fn highest_index(state: &StateDict, prefix: &str) -> Option<usize> {
    let index = |key: &String| key.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    state.keys().filter_map(index).max()
}

fn widen(key: &str, view: &TensorView<'_>) -> Result<HostTensor, ModelError> {
    let bytes = view.data();
    let values = match view.dtype() {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => bytes
            .chunks_exact(2)
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        Dtype::BF16 => bytes
            .chunks_exact(2)
            .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        other => {
            return Err(ModelError::Format(format!(
                "`{key}` is {other:?}, expected floats"
            )));
        }
    };
    Ok(HostTensor {
        shape: view.shape().to_vec(),
        values,
    })
}
