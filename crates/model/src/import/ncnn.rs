//! ncnn's two files: `.param`, the list of layers as text, and `.bin`, their values in that order, without names. Both
//! generators are chains in which the order says the name, so the graph between the layers is not read; kinds of layer
//! that neither network has are refused.

use crate::{HostTensor, ModelError, StateDict};

const MAGIC: &str = "7767517";
/// Before the values of a convolution: how they are stored.
const STORED_F16: u32 = 0x0130_6B47;
const STORED_F32: [u32; 2] = [0, 0x0002_C056];
/// Values and sizes of layers, ten times those of the largest network known.
const LAYER_VALUES_MAX: usize = 16 * 1024 * 1024;
/// Convolutions of an RRDB block: three dense blocks of five.
const BLOCK_CONVS: usize = 15;
/// Convolutions of an RRDBNet that are in no block and upsample nothing: first, body, hr, last.
const PLAIN_CONVS: usize = 4;
/// Three upsamplers make eight times the size.
const UPSAMPLERS_MAX: usize = 3;

/// Whether the bytes begin as a `.param` file.
pub(super) fn is_param(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC.as_bytes())
}

/// The parameters under BasicSR's keys.
pub(super) fn decode(param: &[u8], values: &[u8]) -> Result<StateDict, ModelError> {
    let text = std::str::from_utf8(param).map_err(|_| bad("the .param file is not text"))?;
    if !is_param(param) {
        return Err(bad("the .param file beside the .bin is not ncnn's text form"));
    }
    let layers = layers(text)?;
    let mut rest = values;
    let filled: Vec<Filled> = layers
        .iter()
        .filter_map(|layer| layer.fill(&mut rest).transpose())
        .collect::<Result<_, _>>()?;
    if !rest.is_empty() {
        return Err(bad(&format!(
            "{} bytes of the .bin file belong to no layer",
            rest.len()
        )));
    }
    if filled.iter().any(|layer| matches!(layer, Filled::Prelu(_))) {
        name_compact(&layers, filled)
    } else {
        name_rrdbnet(filled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Layer {
    Convolution {
        out: usize,
        kernel_px: usize,
        values: usize,
    },
    Prelu {
        slopes: usize,
    },
    Interp {
        factor: f32,
    },
    /// Adds, joins, splits and shuffles: nothing to read.
    Empty,
}

enum Filled {
    Convolution { weight: HostTensor, bias: HostTensor },
    Prelu(HostTensor),
}

/// The magic number, the numbers of layers and of blobs, then a line a layer.
fn layers(text: &str) -> Result<Vec<Layer>, ModelError> {
    let mut lines = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    let announced = lines
        .next()
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    let layers: Vec<Layer> = lines.map(layer).collect::<Result<_, _>>()?;
    if announced == Some(layers.len()) {
        Ok(layers)
    } else {
        Err(bad(
            "the .param file has another number of layers than it says: it is cut off",
        ))
    }
}

/// `Type name inputs outputs in.. out.. key=value..`
fn layer(line: &str) -> Result<Layer, ModelError> {
    let (kind, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line, ""));
    let option = |key: &str| {
        let mut pairs = rest.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.find(|(found, _)| *found == key).map(|(_, value)| value)
    };
    let number = |key: &str| -> Result<usize, ModelError> {
        let value = option(key).unwrap_or("0").parse().ok();
        value
            .filter(|&value| value <= LAYER_VALUES_MAX)
            .ok_or_else(|| bad(&format!("the layer `{line}` has no proper option {key}")))
    };
    match kind {
        "Convolution" if number("5")? != 1 => Err(bad(&format!("the layer `{line}` has no bias"))),
        "Convolution" => Ok(Layer::Convolution {
            out: number("0")?,
            kernel_px: number("1")?,
            values: number("6")?,
        }),
        "PReLU" => Ok(Layer::Prelu { slopes: number("0")? }),
        "Interp" => Ok(Layer::Interp {
            factor: option("1").and_then(|value| value.parse().ok()).unwrap_or(1.0),
        }),
        "Input" | "Split" | "Concat" | "BinaryOp" | "Eltwise" | "PixelShuffle" | "Reorg" | "ReLU" => {
            Ok(Layer::Empty)
        }
        other => Err(ModelError::Unknown(format!(
            "a layer `{other}`, which neither RRDBNet nor Compact has"
        ))),
    }
}

impl Layer {
    /// Takes the layer's values from the front of `rest`.
    fn fill(&self, rest: &mut &[u8]) -> Result<Option<Filled>, ModelError> {
        match *self {
            Self::Convolution {
                out,
                kernel_px,
                values,
            } => {
                let square = out.saturating_mul(kernel_px).saturating_mul(kernel_px);
                if square == 0 || values % square != 0 {
                    return Err(bad("a convolution's number of values does not fit its size"));
                }
                let weight = take_tagged(rest, values)?;
                let bias = take_f32(rest, out)?;
                Ok(Some(Filled::Convolution {
                    weight: HostTensor {
                        shape: vec![out, values / square, kernel_px, kernel_px],
                        values: weight,
                    },
                    bias: vector(bias),
                }))
            }
            Self::Prelu { slopes } => Ok(Some(Filled::Prelu(vector(take_f32(rest, slopes)?)))),
            Self::Interp { .. } | Self::Empty => Ok(None),
        }
    }
}

/// A word that says how, then the values; halves are padded to four bytes.
fn take_tagged(rest: &mut &[u8], count: usize) -> Result<Vec<f32>, ModelError> {
    let tag = take(rest, 4)?.try_into().expect("four bytes were taken");
    match u32::from_le_bytes(tag) {
        STORED_F16 => {
            let bytes = take(rest, (count * 2).next_multiple_of(4))?;
            let halves = bytes[..count * 2].chunks_exact(2);
            Ok(halves
                .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect())
        }
        tag if STORED_F32.contains(&tag) => take_f32(rest, count),
        tag => Err(bad(&format!(
            "values are stored as {tag:#010x}: expected halves or floats, not quantised ones"
        ))),
    }
}

fn take_f32(rest: &mut &[u8], count: usize) -> Result<Vec<f32>, ModelError> {
    let floats = take(rest, count * 4)?.chunks_exact(4);
    Ok(floats
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], ModelError> {
    let cut_off = || bad("the .bin file ends before its last layer: it is cut off or of another .param");
    let (taken, left) = rest.split_at_checked(len).ok_or_else(cut_off)?;
    *rest = left;
    Ok(taken)
}

fn vector(values: Vec<f32>) -> HostTensor {
    HostTensor {
        shape: vec![values.len()],
        values,
    }
}

fn name_compact(layers: &[Layer], filled: Vec<Filled>) -> Result<StateDict, ModelError> {
    let shrinks = |layer: &&Layer| matches!(layer, Layer::Interp { factor } if *factor < 1.0);
    if layers.iter().any(|layer| shrinks(&layer)) {
        return Err(ModelError::Unknown(
            "one that makes its output smaller again: take the file of its own scale, mostly the 4x one"
                .into(),
        ));
    }
    let mut state = StateDict::new();
    for (position, layer) in filled.into_iter().enumerate() {
        insert(&mut state, &format!("body.{position}"), layer);
    }
    Ok(state)
}

fn name_rrdbnet(filled: Vec<Filled>) -> Result<StateDict, ModelError> {
    let count = filled.len();
    let rest = count
        .checked_sub(PLAIN_CONVS)
        .map(|rest| (rest / BLOCK_CONVS, rest % BLOCK_CONVS));
    let Some((blocks, upsamplers)) = rest.filter(|(blocks, ups)| *blocks > 0 && *ups <= UPSAMPLERS_MAX)
    else {
        return Err(ModelError::Unknown(format!(
            "{count} convolutions, which no RRDBNet has"
        )));
    };
    let dense = (1..=3).flat_map(|dense| (1..=5).map(move |conv| (dense, conv)));
    let body = (0..blocks).flat_map(|block| {
        dense
            .clone()
            .map(move |(dense, conv)| format!("body.{block}.rdb{dense}.conv{conv}"))
    });
    let names = std::iter::once("conv_first".to_owned())
        .chain(body)
        .chain(["conv_body".to_owned()])
        .chain((1..=upsamplers).map(|number| format!("conv_up{number}")))
        .chain(["conv_hr".to_owned(), "conv_last".to_owned()]);
    let mut state = StateDict::new();
    for (name, layer) in names.zip(filled) {
        insert(&mut state, &name, layer);
    }
    Ok(state)
}

fn insert(state: &mut StateDict, name: &str, layer: Filled) {
    match layer {
        Filled::Convolution { weight, bias } => {
            state.insert(format!("{name}.weight"), weight);
            state.insert(format!("{name}.bias"), bias);
        }
        Filled::Prelu(slopes) => {
            state.insert(format!("{name}.weight"), slopes);
        }
    }
}

fn bad(text: &str) -> ModelError {
    ModelError::Format(text.to_owned())
}
