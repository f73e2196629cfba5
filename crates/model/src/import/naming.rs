//! One naming for all: the keys that ESRGAN's first trainer and its 2019 form gave the same layers become BasicSR's.
//! A key that follows none of them stays as it is, so that the comparison with the network lists it.

use crate::{ModelError, StateDict};

/// What training tools put before every key.
const PREFIXES: [&str; 3] = ["module.", "netG.", "generator."];
/// Layers of the first trainer's form that are no upsampler: first, body, hr, its activation, last.
const PLAIN_LAYERS_LAST: usize = 4;
/// Layers that an upsampler takes there: resize, convolution, activation.
const LAYERS_PER_UPSAMPLER: usize = 3;

/// The same parameters under BasicSR's keys.
pub(super) fn canonical(state: StateDict) -> Result<StateDict, ModelError> {
    let state = without_prefixes(state);
    if state.keys().any(|key| key.contains(".conv1x1.")) {
        return Err(ModelError::Unknown(
            "ESRGAN+, which has convolutions between its dense layers".into(),
        ));
    }
    let form = if state.contains_key("model.0.weight") {
        Form::First {
            upsamplers: upsamplers_of(&state)?,
        }
    } else if state.contains_key("trunk_conv.weight") {
        Form::Of2019
    } else {
        return Ok(state);
    };
    let renamed = state
        .into_iter()
        .map(|(key, tensor)| (form.rename(&key).unwrap_or(key), tensor));
    Ok(renamed.collect())
}

/// The namings that are not BasicSR's.
#[derive(Clone, Copy)]
enum Form {
    First { upsamplers: usize },
    Of2019,
}

impl Form {
    fn rename(self, key: &str) -> Option<String> {
        match self {
            Self::First { upsamplers } => from_first_form(key, upsamplers),
            Self::Of2019 => from_2019_form(key),
        }
    }
}

fn without_prefixes(mut state: StateDict) -> StateDict {
    for prefix in PREFIXES {
        if state.keys().all(|key| key.starts_with(prefix)) {
            let strip = |(key, tensor): (String, _)| (key[prefix.len()..].to_owned(), tensor);
            state = state.into_iter().map(strip).collect();
        }
    }
    state
}

fn upsamplers_of(state: &StateDict) -> Result<usize, ModelError> {
    let index = |key: &String| {
        key.strip_prefix("model.")?
            .split('.')
            .next()?
            .parse::<usize>()
            .ok()
    };
    let last = state.keys().filter_map(index).max().unwrap_or(0);
    match last.checked_sub(PLAIN_LAYERS_LAST) {
        Some(rest) if rest % LAYERS_PER_UPSAMPLER == 0 => Ok(rest / LAYERS_PER_UPSAMPLER),
        _ => Err(ModelError::Unknown(format!(
            "its last layer is model.{last}, expected 4, 7, 10 or 13"
        ))),
    }
}

/// `model.1.sub.N.RDB1.conv1.0.weight`: places in nested lists.
fn from_first_form(key: &str, upsamplers: usize) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    match parts[..] {
        ["model", "1", "sub", block, dense, conv, "0", kind] => body_key(block, dense, conv, kind),
        ["model", "1", "sub", _, kind] => Some(format!("conv_body.{kind}")),
        ["model", layer, kind] => {
            let layer: usize = layer.parse().ok()?;
            let after = LAYERS_PER_UPSAMPLER * upsamplers;
            let name = if layer == 0 {
                "conv_first".to_owned()
            } else if layer == after + 2 {
                "conv_hr".to_owned()
            } else if layer == after + PLAIN_LAYERS_LAST {
                "conv_last".to_owned()
            } else if layer <= after && layer.is_multiple_of(LAYERS_PER_UPSAMPLER) {
                format!("conv_up{}", layer / LAYERS_PER_UPSAMPLER)
            } else {
                return None;
            };
            Some(format!("{name}.{kind}"))
        }
        _ => None,
    }
}

/// `RRDB_trunk.N.RDB1.conv1.weight`: BasicSR's names before it had its own.
fn from_2019_form(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    match parts[..] {
        ["RRDB_trunk", block, dense, conv, kind] => body_key(block, dense, conv, kind),
        ["trunk_conv", kind] => Some(format!("conv_body.{kind}")),
        ["HRconv", kind] => Some(format!("conv_hr.{kind}")),
        [upsampler, kind] => upsampler
            .strip_prefix("upconv")
            .map(|number| format!("conv_up{number}.{kind}")),
        _ => None,
    }
}

fn body_key(block: &str, dense: &str, conv: &str, kind: &str) -> Option<String> {
    let number = dense.strip_prefix("RDB")?;
    Some(format!("body.{block}.rdb{number}.{conv}.{kind}"))
}
