//! Weights that others made: `.safetensors`, `.pth` and ncnn's `.param` + `.bin`, told apart by what is in them. All end
//! as the same parameters under BasicSR's keys, with the network inferred from their shapes.
//!
//! Files come from strangers: no code in them is run, and no size in them is believed beyond the bytes that are there.

mod archive;
mod naming;
mod ncnn;
mod pickle;
mod torch;

use std::path::{Path, PathBuf};

use remaster_domain::ModelArch;

use crate::weights::{check_size, decode_safetensors, infer_arch};
use crate::{ModelError, StateDict};

/// Larger files are no super-resolution weights and must not be read into memory.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// The kinds of file that weights come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsFormat {
    /// `.safetensors`
    Safetensors,
    /// `.pth`, `.pt`, `.ckpt` of PyTorch, old and new form.
    Torch,
    /// `.param` and `.bin` of ncnn.
    Ncnn,
}

/// Parameters under BasicSR's keys and the network they are of.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedWeights {
    /// Parameters; every value is a finite number.
    pub state: StateDict,
    /// Network, inferred from the shapes.
    pub arch: ModelArch,
    /// Output pixels per input pixel.
    pub scale: u32,
    /// What they were read from.
    pub format: WeightsFormat,
}

/// Reads a weights file of any known kind. Of ncnn's two files either may be named; the other lies beside it.
///
/// # Errors
/// [`ModelError::File`] for a file that cannot be read, [`ModelError::Format`] for a damaged one, [`ModelError::Code`]
/// for one that wants code run, [`ModelError::Unknown`] for weights of no network known here.
pub fn read_weights(path: &Path) -> Result<ImportedWeights, ModelError> {
    let bytes = read(path)?;
    let (state, format) = match kind_of(path, &bytes) {
        WeightsFormat::Safetensors => (decode_safetensors(&bytes)?, WeightsFormat::Safetensors),
        WeightsFormat::Torch => (torch::decode(&bytes)?, WeightsFormat::Torch),
        WeightsFormat::Ncnn => (read_ncnn(path, bytes)?, WeightsFormat::Ncnn),
    };
    complete(state, format)
}

/// Reads the tensors of a .safetensors or .pth file under the keys that they have there, of whatever network.
///
/// # Errors
/// As [`read_weights`], but for [`ModelError::Unknown`].
pub fn read_tensors(path: &Path) -> Result<StateDict, ModelError> {
    let bytes = read(path)?;
    if torch::is_torch(&bytes) {
        torch::decode(&bytes)
    } else {
        decode_safetensors(&bytes)
    }
}

/// Parameters that were already read: safetensors, as models in a store are.
///
/// # Errors
/// As [`read_weights`], but for [`ModelError::File`].
pub fn decode_weights(bytes: &[u8]) -> Result<ImportedWeights, ModelError> {
    complete(decode_safetensors(bytes)?, WeightsFormat::Safetensors)
}

fn kind_of(path: &Path, bytes: &[u8]) -> WeightsFormat {
    if ncnn::is_param(bytes) || has_extension(path, "bin") && path.with_extension("param").exists() {
        WeightsFormat::Ncnn
    } else if torch::is_torch(bytes) {
        WeightsFormat::Torch
    } else {
        WeightsFormat::Safetensors
    }
}

fn read_ncnn(path: &Path, bytes: Vec<u8>) -> Result<StateDict, ModelError> {
    if ncnn::is_param(&bytes) {
        ncnn::decode(&bytes, &read(&path.with_extension("bin"))?)
    } else {
        ncnn::decode(&read(&path.with_extension("param"))?, &bytes)
    }
}

fn complete(state: StateDict, format: WeightsFormat) -> Result<ImportedWeights, ModelError> {
    let state = naming::canonical(state)?;
    if let Some((key, _)) = state
        .iter()
        .find(|(_, tensor)| tensor.values.iter().any(|value| !value.is_finite()))
    {
        return Err(ModelError::Format(format!(
            "`{key}` holds a value that is no number"
        )));
    }
    let (arch, scale) = infer_arch(&state)?;
    check_size(&arch, scale, &state)?;
    Ok(ImportedWeights {
        state,
        arch,
        scale,
        format,
    })
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(wanted))
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let failed = |reason: String| ModelError::File {
        path: PathBuf::from(path),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(failed(format!("{size} bytes are too many for a model")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}
