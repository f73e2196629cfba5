//! PyTorch's files of tensors: the archive of today (`data.pkl` beside one entry a storage) and the single stream from
//! before 1.6. Which dictionary inside holds the network is found as the common tools find it, averages first.

use std::collections::BTreeMap;

use super::archive::{self, Entries};
use super::pickle::{self, Element, Slot, Tensor, Value, Values};
use crate::{HostTensor, ModelError, StateDict};

/// How a stream from before 1.6 begins: protocol 2, the long number 0x1950a86a20f9469cfc6c, end.
const STREAM_START: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Names under which training tools put the network, in the order in which they are tried.
const WRAPPERS: [&str; 8] = [
    "model_state_dict",
    "state_dict",
    "params_ema",
    "params-ema",
    "params",
    "model",
    "net",
    "net_g",
];
/// Wrappers inside wrappers: BasicSR has one, lightning's have two.
const WRAPPED_MAX: usize = 4;
/// Values of all tensors together: 8 times the largest network known, half a gigabyte.
const VALUES_MAX: usize = 128 * 1024 * 1024;

/// Whether the bytes begin as PyTorch's files do. A safetensors file may begin with a pickle's first byte, as it begins
/// with a length, but has its opening brace where a pickle has none.
pub(super) fn is_torch(bytes: &[u8]) -> bool {
    archive::is_archive(bytes) || bytes.starts_with(&STREAM_START[..1]) && bytes.get(8) != Some(&b'{')
}

/// The tensors of the network in the file.
pub(super) fn decode(bytes: &[u8]) -> Result<StateDict, ModelError> {
    if archive::is_archive(bytes) {
        decode_archive(&archive::entries(bytes)?)
    } else if let Some(stream) = bytes.strip_prefix(STREAM_START) {
        decode_stream(stream)
    } else {
        Err(bad("it is a pickle, but none that PyTorch's `torch.save` wrote"))
    }
}

fn decode_archive(entries: &Entries<'_>) -> Result<StateDict, ModelError> {
    let (name, list) = entries
        .iter()
        .find(|(name, _)| name.ends_with("/data.pkl") || **name == "data.pkl")
        .ok_or_else(|| bad("the archive has no data.pkl: it is not PyTorch's"))?;
    let folder = name.trim_end_matches("data.pkl");
    let order = entries.get(format!("{folder}byteorder").as_str());
    if order.is_some_and(|order| *order != b"little") {
        return Err(bad(
            "its numbers are big-endian: save it again on a common machine",
        ));
    }
    let values = pickle::read(list)?;
    collect(&values, |key| {
        entries.get(format!("{folder}data/{key}").as_str()).copied()
    })
}

/// Protocol number, facts of the machine, the object, the keys of the storages, then each storage with its length.
fn decode_stream(mut stream: &[u8]) -> Result<StateDict, ModelError> {
    let mut next = || -> Result<Values, ModelError> {
        let values = pickle::read(stream)?;
        stream = &stream[values.bytes_read..];
        Ok(values)
    };
    let (_protocol, _machine) = (next()?, next()?);
    let (object, keys) = (next()?, next()?);
    let Value::List(list) = keys.get(keys.root) else {
        return Err(bad("the list of storages is missing"));
    };
    let elements = elements_of(&object);
    let mut storages = BTreeMap::new();
    for &slot in list {
        let Value::Text(key) = keys.get(slot) else {
            return Err(bad("a storage has no name"));
        };
        let cut_off = || bad("the file is cut off in its values");
        let (len, rest) = stream.split_first_chunk::<8>().ok_or_else(cut_off)?;
        let element = elements
            .get(key.as_str())
            .ok_or_else(|| bad("a storage belongs to no tensor"))?;
        let len = usize::try_from(i64::from_le_bytes(*len)).map_err(|_| cut_off())?;
        let bytes = len.checked_mul(element.bytes()).ok_or_else(cut_off)?;
        let (data, rest) = rest.split_at_checked(bytes).ok_or_else(cut_off)?;
        storages.insert(key.as_str(), data);
        stream = rest;
    }
    collect(&object, |key| storages.get(key).copied())
}

fn elements_of(values: &Values) -> BTreeMap<&str, Element> {
    let mut elements = BTreeMap::new();
    for value in values.iter() {
        if let Value::Storage(storage) = value {
            elements.insert(storage.key.as_str(), storage.element);
        }
    }
    elements
}

fn collect<'a>(values: &Values, storage: impl Fn(&str) -> Option<&'a [u8]>) -> Result<StateDict, ModelError> {
    let mut state = StateDict::new();
    let mut total = 0usize;
    for &(key, value) in network(values)? {
        let (Value::Text(key), Value::Tensor(tensor)) = (values.get(key), values.get(value)) else {
            continue;
        };
        let data = storage(&tensor.storage.key)
            .ok_or_else(|| bad(&format!("the values of `{key}` are not in the file")))?;
        let read = gather(tensor, data).ok_or_else(|| bad(&format!("`{key}` reaches beyond its values")))?;
        total = total.saturating_add(read.values.len());
        if total > VALUES_MAX {
            return Err(bad("the tensors are larger than any network known"));
        }
        state.insert(key.clone(), read);
    }
    if state.is_empty() {
        return Err(bad("there is no tensor in it"));
    }
    Ok(state)
}

/// The dictionary with the tensors: the root, or one that a wrapper's name leads to.
fn network(values: &Values) -> Result<&[(Slot, Slot)], ModelError> {
    let mut slot = values.root;
    for _ in 0..=WRAPPED_MAX {
        let Value::Dict(entries) = values.get(slot) else {
            return Err(bad("it holds no dictionary of tensors"));
        };
        let inner = WRAPPERS.iter().find_map(|wrapper| {
            let named = |&&(key, value): &&(Slot, Slot)| {
                matches!(values.get(key), Value::Text(text) if text == wrapper)
                    && matches!(values.get(value), Value::Dict(_))
            };
            entries.iter().find(named)
        });
        match (inner, entries.as_slice()) {
            (Some(&(_, value)), _) => slot = value,
            (None, [(_, only)]) if matches!(values.get(*only), Value::Dict(_)) => slot = *only,
            _ => return Ok(entries),
        }
    }
    Err(bad("its tensors lie too deep"))
}

/// The values of a view, row by row; `None` where it reaches beyond its storage.
fn gather(tensor: &Tensor, data: &[u8]) -> Option<HostTensor> {
    let count = tensor
        .shape
        .iter()
        .try_fold(1usize, |product, &len| product.checked_mul(len))?;
    let width = tensor.storage.element.bytes();
    // A view with a stride of 0 could be larger than the file; no network has one, nor an empty tensor.
    if count == 0 || count > tensor.storage.len || tensor.storage.len.checked_mul(width)? > data.len() {
        return None;
    }
    let mut positions = vec![tensor.offset];
    for (&len, &stride) in tensor.shape.iter().zip(&tensor.strides) {
        let mut wider = Vec::with_capacity(positions.len() * len);
        for position in positions {
            for index in 0..len {
                wider.push(position.checked_add(index.checked_mul(stride)?)?);
            }
        }
        positions = wider;
    }
    let value = |&position: &usize| {
        let at = position.checked_mul(width)?;
        (position < tensor.storage.len).then(|| tensor.storage.element.read(&data[at..at + width]))
    };
    Some(HostTensor {
        shape: tensor.shape.clone(),
        values: positions.iter().map(value).collect::<Option<_>>()?,
    })
}

impl Element {
    const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    fn read(self, bytes: &[u8]) -> f32 {
        const LONG_ENOUGH: &str = "as many bytes as the element has";
        match self {
            Self::F16 => half::f16::from_le_bytes(bytes.try_into().expect(LONG_ENOUGH)).to_f32(),
            Self::Bf16 => half::bf16::from_le_bytes(bytes.try_into().expect(LONG_ENOUGH)).to_f32(),
            Self::F32 => f32::from_le_bytes(bytes.try_into().expect(LONG_ENOUGH)),
            Self::F64 => f64::from_le_bytes(bytes.try_into().expect(LONG_ENOUGH)) as f32,
            Self::I64 => i64::from_le_bytes(bytes.try_into().expect(LONG_ENOUGH)) as f32,
        }
    }
}

fn bad(text: &str) -> ModelError {
    ModelError::Format(text.to_owned())
}
