//! A network's parameters by name, on the host: what checkpoints, exports and imports are made of. Names are the
//! paths of the fields, which are chosen to be BasicSR's keys.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::ModelError;

/// One parameter on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// Values, last dimension fastest.
    pub values: Vec<f32>,
}

/// Parameters by key, in key order.
pub type StateDict = BTreeMap<String, HostTensor>;

/// The path of the parameter that a visitor stands at. Enum variants are not part of it: `body.0.weight` is a key,
/// `body.0.Conv.weight` is not.
#[derive(Debug, Default)]
pub struct ParamPath(Vec<String>);

impl ParamPath {
    /// Call from `enter_module`.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        if is_part_of_path(container_type) {
            self.0.push(name.to_owned());
        }
    }

    /// Call from `exit_module`.
    pub fn exit(&mut self, container_type: &str) {
        if is_part_of_path(container_type) {
            self.0.pop();
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.join(".")
    }
}

fn is_part_of_path(container_type: &str) -> bool {
    !container_type.starts_with("Enum:")
}

/// Copies every parameter to the host.
pub fn read_state<M: Module>(module: &M) -> StateDict {
    let mut reader = Reader {
        path: ParamPath::default(),
        found: StateDict::new(),
    };
    module.visit(&mut reader);
    reader.found
}

/// Fills a module with exactly these parameters; everything must be there and fit.
///
/// # Errors
/// [`ModelError::Mismatch`] names every key that did not.
pub fn write_state<M: Module>(module: M, state: &StateDict) -> Result<M, ModelError> {
    check(&read_shapes(&module), state)?;
    let mut writer = Writer {
        path: ParamPath::default(),
        state,
    };
    Ok(module.map(&mut writer))
}

fn check(expected: &BTreeMap<String, Vec<usize>>, state: &StateDict) -> Result<(), ModelError> {
    let missing: Vec<_> = expected
        .keys()
        .filter(|key| !state.contains_key(*key))
        .cloned()
        .collect();
    let unexpected: Vec<_> = state
        .keys()
        .filter(|key| !expected.contains_key(*key))
        .cloned()
        .collect();
    let wrong_shape: Vec<_> = state
        .iter()
        .filter_map(|(key, found)| expected.get(key).map(|shape| (key, shape, found)))
        .filter(|(_, shape, found)| **shape != found.shape)
        .map(|(key, shape, found)| format!("{key} {:?} instead of {shape:?}", found.shape))
        .collect();
    if missing.is_empty() && unexpected.is_empty() && wrong_shape.is_empty() {
        Ok(())
    } else {
        Err(ModelError::Mismatch {
            missing,
            unexpected,
            wrong_shape,
        })
    }
}

fn read_shapes<M: Module>(module: &M) -> BTreeMap<String, Vec<usize>> {
    let mut reader = ShapeReader {
        path: ParamPath::default(),
        found: BTreeMap::new(),
    };
    module.visit(&mut reader);
    reader.found
}

struct Reader {
    path: ParamPath,
    found: StateDict,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().inner();
        let shape = tensor.dims().to_vec();
        let values = tensor
            .try_into_vec_as::<f32>()
            .expect("parameters are f32 and on a readable device");
        self.found.insert(self.path.key(), HostTensor { shape, values });
    }
}

struct ShapeReader {
    path: ParamPath,
    found: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for ShapeReader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.insert(self.path.key(), param.dims().to_vec());
    }
}

struct Writer<'a> {
    path: ParamPath,
    state: &'a StateDict,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let found = &self.state[&self.path.key()];
        param.map(|old| {
            let data = TensorData::new(found.values.clone(), found.shape.clone());
            let new = Tensor::<D>::from_data(data, &old.device());
            if old.is_require_grad() {
                new.require_grad()
            } else {
                new
            }
        })
    }
}
