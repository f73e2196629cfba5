//! Files of other tools (fixtures/foreign.py, written by PyTorch itself): every form gives the same network, and files
//! that are hostile, damaged or of something else are refused by name.

use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remaster_domain::ModelArch;
use remaster_model::{ModelError, StateDict, WeightsFormat, encode_safetensors, fill_model, read_weights};

use crate::{Fixture, cpu, tiny_rrdbnet};

/// Half precision keeps 11 bits, and below its smallest normal number steps of a fixed size.
const HALF_STEP: f32 = 1.0 / 2048.0;
const HALF_STEP_SMALLEST: f32 = 6e-8;
const FILES: [&str; 5] = [
    "basicsr.pth",
    "first-form-stream.pth",
    "form-2019-half.pth",
    "rrdbnet-half.bin",
    "compact-float.param",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn assert_close(found: &StateDict, expected: &StateDict, step: f32) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (key, tensor) in found {
        assert_eq!(tensor.shape, expected[key].shape, "{key}");
        for (found, expected) in tensor.values.iter().zip(&expected[key].values) {
            let allowed = step * expected.abs().max(HALF_STEP_SMALLEST / HALF_STEP);
            assert!(
                (found - expected).abs() <= allowed,
                "{key}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn every_form_of_the_same_weights_is_the_same_network() {
    let rrdbnet = Fixture::read("rrdbnet-plain-4x");
    for (name, format, step) in [
        ("basicsr.pth", WeightsFormat::Torch, 0.0),
        ("first-form-stream.pth", WeightsFormat::Torch, 0.0),
        ("form-2019-half.pth", WeightsFormat::Torch, HALF_STEP),
        ("rrdbnet-half.bin", WeightsFormat::Ncnn, HALF_STEP),
        ("rrdbnet-half.param", WeightsFormat::Ncnn, HALF_STEP),
    ] {
        let read = read_weights(&fixture(name)).unwrap();
        assert_eq!(
            (&read.arch, read.scale, read.format),
            (&tiny_rrdbnet(1), 4, format),
            "{name}"
        );
        assert_close(&read.state, &rrdbnet.net, step);
    }
    let read = read_weights(&fixture("basicsr.pth")).unwrap();
    let net = fill_model(&read.state, &read.arch, read.scale, &cpu()).unwrap();
    rrdbnet.assert_output(net.forward(rrdbnet.input_on(&cpu())));
}

#[test]
fn a_compact_network_comes_out_of_ncnn_bit_by_bit() {
    let read = read_weights(&fixture("compact-float.param")).unwrap();
    let arch = ModelArch::Compact {
        num_feat: 4,
        num_conv: 2,
    };
    assert_eq!((read.arch, read.scale), (arch, 2));
    assert_close(&read.state, &Fixture::read("compact-2x").net, 0.0);
}

#[test]
fn a_file_that_wants_code_run_is_refused_by_name_and_nothing_runs() {
    for name in ["hostile.pth", "hostile-stream.pth"] {
        let error = read_weights(&fixture(name)).unwrap_err();
        assert!(
            matches!(&error, ModelError::Code(asked) if asked == "posix.system"),
            "{name}: {error}"
        );
    }
    assert!(!Path::new("/tmp/remaster-model-was-run").exists());
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        let whole = std::fs::read(fixture(name)).unwrap();
        let expected = read_weights(&fixture(name)).unwrap().state;
        let cut = folder.path().join(name);
        for other in ["param", "bin"] {
            let beside = fixture(name).with_extension(other);
            if beside.exists() {
                std::fs::copy(&beside, cut.with_extension(other)).unwrap();
            }
        }
        for len in (0..whole.len()).step_by(whole.len() / 60) {
            std::fs::write(&cut, &whole[..len]).unwrap();
            // The last words of a list of layers say nothing of the values.
            if let Ok(read) = read_weights(&cut) {
                assert!(
                    name.ends_with(".param") && read.state == expected,
                    "{name} at {len}"
                );
            }
        }
    }
}

#[test]
fn damaged_bytes_never_end_the_program() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let folder = tempfile::tempdir().unwrap();
    for name in ["basicsr.pth", "first-form-stream.pth", "hostile.pth"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let file = folder.path().join(name);
        for _ in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..8 {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = rng.random();
            }
            std::fs::write(&file, &damaged).unwrap();
            // Either answer is right: a changed weight is still a weight.
            let _ = read_weights(&file);
        }
    }
}

#[test]
fn a_layer_that_is_missing_is_listed() {
    let mut read = read_weights(&fixture("first-form-stream.pth")).unwrap();
    read.state.remove("body.0.rdb2.conv3.bias");
    let error = fill_model(&read.state, &read.arch, read.scale, &cpu()).unwrap_err();
    assert!(
        error.to_string().contains("missing body.0.rdb2.conv3.bias"),
        "{error}"
    );
}

#[test]
fn weights_that_promise_more_than_they_hold_ask_for_no_memory() {
    let mut net = Fixture::read("rrdbnet-plain-4x").net;
    let bias = net["conv_first.bias"].clone();
    net.insert("body.3000000000.rdb1.conv1.bias".into(), bias);
    let error = read_state_file(&net).unwrap_err();
    assert!(error.to_string().contains("promise"), "{error}");
}

#[test]
fn a_value_that_is_no_number_is_named() {
    let mut net = Fixture::read("compact-2x").net;
    net.get_mut("body.2.bias").unwrap().values[1] = f32::NAN;
    let error = read_state_file(&net).unwrap_err();
    assert!(error.to_string().contains("`body.2.bias`"), "{error}");
}

#[test]
fn ncnn_networks_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let param = folder.path().join("net.param");
    std::fs::copy(fixture("compact-float.bin"), folder.path().join("net.bin")).unwrap();
    let text = std::fs::read_to_string(fixture("compact-float.param")).unwrap();
    for (line, expected) in [
        (
            "Interp small 1 1 a b 0=3 1=5.000000e-01 2=5.000000e-01\n",
            "smaller again",
        ),
        ("Deconvolution d 1 1 a b 0=4\n", "`Deconvolution`"),
        ("Convolution d 1 1 a b 0=4 1=99999999999 5=1\n", "option 1"),
        ("PReLU d 1 1 a b 0=4\n", "ends before its last layer"),
    ] {
        let longer = format!("{}{line}", text.replacen("9 9", "10 10", 1));
        std::fs::write(&param, longer).unwrap();
        let error = read_weights(&param).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_file(folder.path().join("net.bin")).unwrap();
    let error = read_weights(&param).unwrap_err().to_string();
    assert!(error.contains("net.bin"), "{error}");
}

fn read_state_file(state: &StateDict) -> Result<remaster_model::ImportedWeights, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, encode_safetensors(state)).unwrap();
    read_weights(&file)
}
