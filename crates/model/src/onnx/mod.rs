//! A generator as an ONNX file for any other runtime: batch, height and width are left open, values are f32, weights keep
//! BasicSR's keys. Only operators that every runtime has.
//!
//! The graph is written from the same descriptions as the networks beside; the bench compares what ONNX Runtime makes of
//! it with what they make.

mod message;

use message::{Attribute, Dim, Graph, Kind, Model, Node, OperatorSet, Shape, Tensor, TensorKind, ValueInfo};
use prost::Message;
use remaster_domain::ModelArch;

use crate::weights::check_size;
use crate::{HostTensor, ModelError, StateDict};

/// What ONNX Runtime 1.10 (2021) and all later ones read.
const IR_VERSION: i64 = 7;
const OPERATORS_VERSION: i64 = 14;
const F32: i32 = 1;
const LEAK: f32 = 0.2;
const RESIDUAL_SCALE: f32 = 0.2;

/// The file of a generator.
///
/// # Shapes
/// `input` `[n, 3, h, w]`, RGB in 0..1, gives `output` `[n, 3, h * scale, w * scale]`, not clamped; `h` and `w` divide by
/// the network's unshuffle factor.
///
/// # Errors
/// [`ModelError::Mismatch`] with the keys that are missing.
pub fn encode_onnx(arch: &ModelArch, scale: u32, state: &StateDict) -> Result<Vec<u8>, ModelError> {
    check_size(arch, scale, state)?;
    let mut builder = Builder {
        state,
        graph: Graph {
            name: "generator".to_owned(),
            input: vec![picture("input", "height", "width")],
            output: vec![picture("output", "height_out", "width_out")],
            ..Graph::default()
        },
        missing: Vec::new(),
    };
    match *arch {
        ModelArch::RrdbNet {
            num_block, unshuffle, ..
        } => builder.rrdbnet(num_block, unshuffle, (scale * unshuffle).ilog2()),
        ModelArch::Compact { num_conv, .. } => builder.compact(num_conv, scale),
    }
    if !builder.missing.is_empty() {
        return Err(ModelError::Mismatch {
            missing: builder.missing,
            unexpected: Vec::new(),
            wrong_shape: Vec::new(),
        });
    }
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "remaster".to_owned(),
        graph: Some(builder.graph),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: OPERATORS_VERSION,
        }],
    };
    Ok(model.encode_to_vec())
}

struct Builder<'a> {
    state: &'a StateDict,
    graph: Graph,
    missing: Vec<String>,
}

impl Builder<'_> {
    fn rrdbnet(&mut self, blocks: u32, unshuffle: u32, doublings: u32) {
        self.constant("residual_scale", &[], &[RESIDUAL_SCALE]);
        self.constant("doubled", &[4], &[1.0, 1.0, 2.0, 2.0]);
        let first = if unshuffle == 1 {
            self.conv("conv_first", "input")
        } else {
            let folded = self.node("SpaceToDepth", &["input"], vec![integer("blocksize", unshuffle)]);
            self.weight_for_folded("conv_first", unshuffle);
            self.convolve("conv_first", &folded)
        };
        let mut body = first.clone();
        for block in 0..blocks {
            let mut inner = body.clone();
            for dense in 1..=3 {
                inner = self.dense(&format!("body.{block}.rdb{dense}"), &inner);
            }
            body = self.residual(&inner, &body);
        }
        let body = self.conv("conv_body", &body);
        let mut features = self.node("Add", &[&first, &body], vec![]);
        for number in 1..=doublings {
            let larger = self.nearest(&features, "doubled");
            features = self.leaky_conv(&format!("conv_up{number}"), &larger);
        }
        let features = self.leaky_conv("conv_hr", &features);
        let output = self.conv("conv_last", &features);
        self.finish(&output);
    }

    fn dense(&mut self, name: &str, x: &str) -> String {
        let mut known = vec![x.to_owned()];
        for conv in 1..=4 {
            let joined = self.join(&known);
            known.push(self.leaky_conv(&format!("{name}.conv{conv}"), &joined));
        }
        let joined = self.join(&known);
        let out = self.conv(&format!("{name}.conv5"), &joined);
        self.residual(&out, x)
    }

    fn compact(&mut self, num_conv: u32, scale: u32) {
        let factor = scale as f32;
        self.constant("enlarged", &[4], &[1.0, 1.0, factor, factor]);
        let mut features = "input".to_owned();
        for position in 0..=num_conv {
            features = self.conv(&format!("body.{}", 2 * position), &features);
            features = self.prelu(&format!("body.{}", 2 * position + 1), &features);
        }
        let features = self.conv(&format!("body.{}", 2 * num_conv + 2), &features);
        let order = [integer("blocksize", scale), text("mode", "CRD")];
        let shuffled = self.node("DepthToSpace", &[&features], order.to_vec());
        let base = self.nearest("input", "enlarged");
        let output = self.node("Add", &[&shuffled, &base], vec![]);
        self.finish(&output);
    }

    fn residual(&mut self, inner: &str, x: &str) -> String {
        let scaled = self.node("Mul", &[inner, "residual_scale"], vec![]);
        self.node("Add", &[&scaled, x], vec![])
    }

    fn join(&mut self, known: &[String]) -> String {
        if let [only] = known {
            return only.clone();
        }
        let inputs: Vec<&str> = known.iter().map(String::as_str).collect();
        self.node("Concat", &inputs, vec![integer("axis", 1)])
    }

    fn nearest(&mut self, x: &str, scales: &str) -> String {
        let way = [
            text("mode", "nearest"),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        self.node("Resize", &[x, "", scales], way.to_vec())
    }

    fn leaky_conv(&mut self, name: &str, x: &str) -> String {
        let out = self.conv(name, x);
        let leak = Attribute {
            name: "alpha".to_owned(),
            f: Some(LEAK),
            kind: 1,
            ..Attribute::default()
        };
        self.node("LeakyRelu", &[&out], vec![leak])
    }

    fn conv(&mut self, name: &str, x: &str) -> String {
        self.weight(&format!("{name}.weight"));
        self.convolve(name, x)
    }

    fn convolve(&mut self, name: &str, x: &str) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.weight(&bias);
        let square = [integers("kernel_shape", &[3, 3]), integers("pads", &[1, 1, 1, 1])];
        self.node("Conv", &[x, &weight, &bias], square.to_vec())
    }

    /// One slope a channel, broadcast over the picture.
    fn prelu(&mut self, name: &str, x: &str) -> String {
        let key = format!("{name}.weight");
        if let Some(slopes) = self.found(&key) {
            let shape = [slopes.values.len(), 1, 1];
            self.constant(&key, &shape, &slopes.values);
        }
        self.node("PRelu", &[x, &key], vec![])
    }

    fn weight(&mut self, key: &str) {
        if let Some(tensor) = self.found(key) {
            self.constant(key, &tensor.shape, &tensor.values);
        }
    }

    /// PyTorch folds pixels into channels colour by colour, ONNX place by place: the first weights change their order.
    fn weight_for_folded(&mut self, name: &str, factor: u32) {
        let key = format!("{name}.weight");
        let Some(tensor) = self.found(&key) else { return };
        let places = (factor * factor) as usize;
        let kernel = tensor.shape.iter().skip(2).product::<usize>();
        let filter = tensor.shape.iter().skip(1).product::<usize>();
        let colours = filter / kernel / places;
        let mut values = Vec::with_capacity(tensor.values.len());
        for weights in tensor.values.chunks_exact(filter) {
            for channel in 0..colours * places {
                let (place, colour) = (channel / colours, channel % colours);
                let from = (colour * places + place) * kernel;
                values.extend_from_slice(&weights[from..from + kernel]);
            }
        }
        self.constant(&key, &tensor.shape, &values);
    }

    fn found(&mut self, key: &str) -> Option<HostTensor> {
        let tensor = self.state.get(key).cloned();
        if tensor.is_none() {
            self.missing.push(key.to_owned());
        }
        tensor
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(Tensor {
            dims: shape.iter().map(|&len| len as i64).collect(),
            data_type: F32,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
    }

    /// Adds an operator; answers the name of what comes out.
    fn node(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        let name = format!("{op_type}_{}", self.graph.node.len());
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op_type.to_owned(),
            attribute,
        });
        name
    }

    fn finish(&mut self, last: &str) {
        if let Some(node) = self.graph.node.last_mut().filter(|node| node.name == last) {
            node.output = vec!["output".to_owned()];
        }
    }
}

fn picture(name: &str, height: &str, width: &str) -> ValueInfo {
    let open = |name: &str| Dim {
        value: None,
        param: Some(name.to_owned()),
    };
    let colours = Dim {
        value: Some(3),
        param: None,
    };
    ValueInfo {
        name: name.to_owned(),
        kind: Some(Kind {
            tensor: Some(TensorKind {
                elem_type: F32,
                shape: Some(Shape {
                    dim: vec![open("batch"), colours, open(height), open(width)],
                }),
            }),
        }),
    }
}

fn integer(name: &str, value: u32) -> Attribute {
    Attribute {
        name: name.to_owned(),
        i: Some(i64::from(value)),
        kind: 2,
        ..Attribute::default()
    }
}

fn integers(name: &str, values: &[i64]) -> Attribute {
    Attribute {
        name: name.to_owned(),
        ints: values.to_vec(),
        kind: 7,
        ..Attribute::default()
    }
}

fn text(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        s: Some(value.as_bytes().to_vec()),
        kind: 3,
        ..Attribute::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;
    use crate::{DeviceKind, Generator, device, read_state};

    fn networks() -> [(ModelArch, u32); 3] {
        let rrdbnet = |unshuffle| ModelArch::RrdbNet {
            num_feat: 4,
            num_block: 2,
            num_grow_ch: 2,
            unshuffle,
        };
        let compact = ModelArch::Compact {
            num_feat: 4,
            num_conv: 2,
        };
        [(rrdbnet(1), 4), (rrdbnet(2), 2), (compact, 2)]
    }

    fn state(arch: &ModelArch, scale: u32) -> StateDict {
        let device = device(DeviceKind::default()).unwrap();
        read_state(&Generator::new(arch, scale, 1, &device).unwrap())
    }

    #[test]
    fn every_value_is_made_before_it_is_used_and_every_weight_is_used() {
        for (arch, scale) in networks() {
            let state = state(&arch, scale);
            let bytes = encode_onnx(&arch, scale, &state).unwrap();
            let graph = Model::decode(bytes.as_slice()).unwrap().graph.unwrap();
            let mut known: BTreeSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
            assert_eq!(known.len(), graph.initializer.len(), "a constant has two values");
            known.insert("input".into());
            let mut used = BTreeSet::new();
            for node in &graph.node {
                for input in node.input.iter().filter(|input| !input.is_empty()) {
                    assert!(known.contains(input), "{} wants {input}", node.name);
                    used.insert(input.clone());
                }
                known.extend(node.output.iter().cloned());
            }
            assert!(known.contains("output"));
            assert!(state.keys().all(|key| used.contains(key)), "{arch:?}");
        }
    }

    #[test]
    fn height_and_width_are_open() {
        let (arch, scale) = networks()[2].clone();
        let bytes = encode_onnx(&arch, scale, &state(&arch, scale)).unwrap();
        let graph = Model::decode(bytes.as_slice()).unwrap().graph.unwrap();
        let shape = graph.input[0]
            .kind
            .clone()
            .unwrap()
            .tensor
            .unwrap()
            .shape
            .unwrap();
        let fixed: Vec<_> = shape.dim.iter().map(|dim| dim.value).collect();
        assert_eq!(fixed, [None, Some(3), None, None]);
    }

    #[test]
    fn a_missing_weight_is_named() {
        let (arch, scale) = networks()[0].clone();
        let mut state = state(&arch, scale);
        state.remove("conv_hr.bias");
        let error = encode_onnx(&arch, scale, &state).unwrap_err();
        assert!(error.to_string().contains("missing conv_hr.bias"), "{error}");
    }
}
