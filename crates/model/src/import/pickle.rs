//! A pickle machine that cannot run anything. Python's own machine imports and calls whatever the bytes name; this one
//! knows only the instructions and the few names that tensors need, and builds values from them. Any other name or
//! instruction ends the reading with that name.
//!
//! Values lie in one list and refer to each other by position, as a pickle changes a list after it has been remembered.
//! Each instruction makes at most one value, so the work is bounded by the length of the pickle.

use std::collections::HashMap;

use crate::ModelError;

/// A hundred times the pickle of the largest network known.
const PICKLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Position of a value in its [`Values`].
pub(super) type Slot = usize;

/// What a pickle may hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Slot>),
    List(Vec<Slot>),
    Dict(Vec<(Slot, Slot)>),
    Global(Global),
    Storage(Storage),
    Tensor(Tensor),
}

/// The only names a pickle may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Element),
}

/// What a storage holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    I64,
}

/// Values of a tensor, in another place of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) element: Element,
    /// Elements.
    pub(super) len: usize,
}

/// A view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    /// First element.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements from one index of a dimension to the next.
    pub(super) strides: Vec<usize>,
}

/// Everything that a pickle made.
#[derive(Debug)]
pub(super) struct Values {
    all: Vec<Value>,
    /// What the pickle is.
    pub(super) root: Slot,
    /// Bytes read.
    pub(super) bytes_read: usize,
}

impl Values {
    /// The value at a position that another value named.
    pub(super) fn get(&self, slot: Slot) -> &Value {
        &self.all[slot]
    }

    /// Every value, in the order in which they were made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.all.iter()
    }
}

/// Reads one pickle from the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Values, ModelError> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(PICKLE_BYTES_MAX)],
        at: 0,
        all: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let code = machine.byte()?;
        if code == b'.' {
            let root = machine.pop()?;
            return Ok(Values {
                all: machine.all,
                root,
                bytes_read: machine.at,
            });
        }
        machine.step(code)?;
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    all: Vec<Value>,
    stack: Vec<Slot>,
    /// Heights of the stack where a group begins.
    marks: Vec<usize>,
    memo: HashMap<u32, Slot>,
}

impl Machine<'_> {
    fn step(&mut self, code: u8) -> Result<(), ModelError> {
        match code {
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a => self.integer(code),
            b'G' => {
                let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
                self.push(Value::Float(f64::from_be_bytes(bytes)))
            }
            b'X' | 0x8c | b'U' => self.text(code),
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => {
                let items = self.group()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Tuple(items))
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(code),
            b's' | b'u' | b'a' | b'e' => self.extend(code),
            b'c' | 0x93 => self.global(code),
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            other => Err(refused(other)),
        }
    }

    fn integer(&mut self, code: u8) -> Result<(), ModelError> {
        let len = match code {
            b'J' => 4,
            b'K' => 1,
            b'M' => 2,
            _ => usize::from(self.byte()?),
        };
        let bytes = self.take(len)?;
        if len > 8 {
            return Err(bad("a number is too long"));
        }
        let signed = matches!(code, b'J' | 0x8a) && bytes.last().is_some_and(|top| top & 0x80 != 0);
        let mut wide = [if signed { 0xff } else { 0 }; 8];
        wide[..len].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, code: u8) -> Result<(), ModelError> {
        let len = if code == b'X' {
            self.u32()? as usize
        } else {
            usize::from(self.byte()?)
        };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| bad("a name is not text"))?;
        let text = text.to_owned();
        self.push(Value::Text(text))
    }

    fn remember(&mut self, code: u8) -> Result<(), ModelError> {
        let index = match code {
            b'q' | b'h' => u32::from(self.byte()?),
            b'r' | b'j' => self.u32()?,
            _ => u32::try_from(self.memo.len()).map_err(|_| bad("too many values"))?,
        };
        if matches!(code, b'h' | b'j') {
            let known = *self
                .memo
                .get(&index)
                .ok_or_else(|| bad("a value is used before it is made"))?;
            self.stack.push(known);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    /// Puts values into the list or dictionary below them.
    fn extend(&mut self, code: u8) -> Result<(), ModelError> {
        let items = match code {
            b's' => self.pop_many(2)?,
            b'a' => self.pop_many(1)?,
            _ => self.group()?,
        };
        let target = self.top()?;
        match &mut self.all[target] {
            Value::Dict(entries) if matches!(code, b's' | b'u') && items.len() % 2 == 0 => {
                entries.extend(items.chunks_exact(2).map(|two| (two[0], two[1])));
                Ok(())
            }
            Value::List(list) if matches!(code, b'a' | b'e') => {
                list.extend(items);
                Ok(())
            }
            _ => Err(bad("values are put into something that holds none")),
        }
    }

    fn global(&mut self, code: u8) -> Result<(), ModelError> {
        let name = if code == b'c' {
            let (module, name) = (self.line()?, self.line()?);
            format!("{module}.{name}")
        } else {
            let items = self.pop_many(2)?;
            match (&self.all[items[0]], &self.all[items[1]]) {
                (Value::Text(module), Value::Text(name)) => format!("{module}.{name}"),
                _ => return Err(bad("a name is not text")),
            }
        };
        let global = match name.as_str() {
            "collections.OrderedDict" => Global::OrderedDict,
            "torch._utils._rebuild_tensor_v2" => Global::RebuildTensor,
            "torch._utils._rebuild_parameter" => Global::RebuildParameter,
            "torch.HalfStorage" => Global::Storage(Element::F16),
            "torch.BFloat16Storage" => Global::Storage(Element::Bf16),
            "torch.FloatStorage" => Global::Storage(Element::F32),
            "torch.DoubleStorage" => Global::Storage(Element::F64),
            "torch.LongStorage" => Global::Storage(Element::I64),
            _ => return Err(ModelError::Code(name)),
        };
        self.push(Value::Global(global))
    }

    /// `('storage', type, key, place, elements)`, in old files followed by nothing or a view.
    fn persistent(&mut self) -> Result<(), ModelError> {
        let id = self.pop()?;
        let Value::Tuple(parts) = &self.all[id] else {
            return Err(bad("a storage is not described"));
        };
        if parts.get(5).is_some_and(|&view| self.all[view] != Value::None) {
            return Err(bad(
                "a storage is a view of another: save the weights again with a newer PyTorch",
            ));
        }
        let storage = match parts
            .iter()
            .take(5)
            .map(|&part| &self.all[part])
            .collect::<Vec<_>>()[..]
        {
            [
                Value::Text(word),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                _,
                Value::Int(len),
            ] if word == "storage" => Storage {
                key: key.clone(),
                element: *element,
                len: size(*len)?,
            },
            _ => return Err(bad("a storage is not described")),
        };
        self.push(Value::Storage(storage))
    }

    /// Python would call here; the three names that can be on the stack are built instead.
    fn reduce(&mut self) -> Result<(), ModelError> {
        let parts = self.pop_many(2)?;
        let (Value::Global(global), Value::Tuple(arguments)) = (&self.all[parts[0]], &self.all[parts[1]])
        else {
            return Err(bad("something is called that is no function"));
        };
        let value = match global {
            Global::OrderedDict => Value::Dict(self.pairs(arguments)?),
            Global::RebuildTensor => Value::Tensor(self.tensor(arguments)?),
            Global::RebuildParameter => match arguments.first().map(|&data| &self.all[data]) {
                Some(Value::Tensor(tensor)) => Value::Tensor(tensor.clone()),
                _ => return Err(bad("a parameter has no tensor")),
            },
            Global::Storage(_) => return Err(bad("a storage is called")),
        };
        self.push(value)
    }

    /// The pairs that an ordered dictionary of Python 2 is made from; later ones are made empty.
    fn pairs(&self, arguments: &[Slot]) -> Result<Vec<(Slot, Slot)>, ModelError> {
        let items: &[Slot] = match arguments.first().map(|&first| &self.all[first]) {
            None => &[],
            Some(Value::List(items)) => items,
            Some(_) => return Err(bad("a dictionary is made from something else than pairs")),
        };
        let pair = |&item: &Slot| match &self.all[item] {
            Value::Tuple(two) | Value::List(two) if two.len() == 2 => Ok((two[0], two[1])),
            _ => Err(bad("a dictionary is made from something else than pairs")),
        };
        items.iter().map(pair).collect()
    }

    fn tensor(&self, arguments: &[Slot]) -> Result<Tensor, ModelError> {
        let sizes = |items: &[Slot]| -> Result<Vec<usize>, ModelError> {
            let one = |&item: &Slot| match self.all[item] {
                Value::Int(value) => size(value),
                _ => Err(bad("a tensor's size is no number")),
            };
            items.iter().map(one).collect()
        };
        match arguments
            .iter()
            .take(4)
            .map(|&part| &self.all[part])
            .collect::<Vec<_>>()[..]
        {
            [
                Value::Storage(storage),
                Value::Int(offset),
                Value::Tuple(shape),
                Value::Tuple(strides),
            ] if shape.len() == strides.len() => Ok(Tensor {
                storage: storage.clone(),
                offset: size(*offset)?,
                shape: sizes(shape)?,
                strides: sizes(strides)?,
            }),
            _ => Err(bad("a tensor is not described")),
        }
    }

    /// Attributes of a dictionary (PyTorch's `_metadata`) say nothing of the weights.
    fn build(&mut self) -> Result<(), ModelError> {
        self.pop()?;
        let target = self.top()?;
        match self.all[target] {
            Value::Dict(_) => Ok(()),
            _ => Err(bad("attributes are set on something else than a dictionary")),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), ModelError> {
        self.stack.push(self.all.len());
        self.all.push(value);
        Ok(())
    }

    fn top(&self) -> Result<Slot, ModelError> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| bad("a value is missing"))
    }

    fn pop(&mut self) -> Result<Slot, ModelError> {
        let last = self.pop_many(1)?;
        Ok(last[0])
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Slot>, ModelError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(from) if from >= floor => Ok(self.stack.split_off(from)),
            _ => Err(bad("a value is missing")),
        }
    }

    /// The values since the last mark.
    fn group(&mut self) -> Result<Vec<Slot>, ModelError> {
        let from = self.marks.pop().ok_or_else(|| bad("a group has no beginning"))?;
        Ok(self.stack.split_off(from))
    }

    fn byte(&mut self) -> Result<u8, ModelError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes))
    }

    fn take(&mut self, len: usize) -> Result<&[u8], ModelError> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| bad("the file is cut off in its list of tensors"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn line(&mut self) -> Result<String, ModelError> {
        let len = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let len = len.ok_or_else(|| bad("the file is cut off in its list of tensors"))?;
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.at += 1;
        Ok(text)
    }
}

fn size(value: i64) -> Result<usize, ModelError> {
    usize::try_from(value).map_err(|_| bad("a size is negative"))
}

/// Instructions that make objects are named; the rest no tensor file has.
fn refused(code: u8) -> ModelError {
    match code {
        b'i' => ModelError::Code("instruction INST".to_owned()),
        b'o' => ModelError::Code("instruction OBJ".to_owned()),
        0x81 => ModelError::Code("instruction NEWOBJ".to_owned()),
        0x92 => ModelError::Code("instruction NEWOBJ_EX".to_owned()),
        0x82..=0x84 => ModelError::Code("instruction EXT".to_owned()),
        other => bad(&format!("instruction {other:#04x} is in no file of tensors")),
    }
}

fn bad(text: &str) -> ModelError {
    ModelError::Format(text.to_owned())
}
