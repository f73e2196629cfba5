//! The networks against reference forward passes (fixtures/reference.py, plain numpy), and weights out and in
//! again.
#![allow(clippy::unwrap_used)]

mod foreign;

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use remaster_domain::{InputColour, Lattice, ModelArch, ModelCard};
use remaster_model::{
    DeviceKind, Generator, HostTensor, ModelError, RgbBatch, Seeded, StateDict, UnetDiscriminatorConfig,
    Vgg19, VggDiscriminatorConfig, VggTap, decode_safetensors, device, encode_safetensors, infer_arch,
    load_model, read_state, upscale_rgb, write_state,
};

/// f32 sums over a few hundred terms against f64.
const TOLERANCE: f32 = 2e-5;

struct Fixture {
    net: StateDict,
    input: HostTensor,
    output: HostTensor,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let mut all = decode_safetensors(&std::fs::read(path).unwrap()).unwrap();
        let (input, output) = (all.remove("input").unwrap(), all.remove("output").unwrap());
        let net = all
            .into_iter()
            .map(|(key, value)| (key.replacen("net.", "", 1), value))
            .collect();
        Self { net, input, output }
    }

    fn input_on(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(
            TensorData::new(self.input.values.clone(), self.input.shape.clone()),
            device,
        )
    }

    fn assert_output(&self, found: Tensor<4>) {
        assert_eq!(found.dims().to_vec(), self.output.shape);
        let found = found.try_into_vec_as::<f32>().unwrap();
        for (position, (found, expected)) in found.iter().zip(&self.output.values).enumerate() {
            assert!(
                (found - expected).abs() < TOLERANCE,
                "{found} instead of {expected} at {position}"
            );
        }
    }
}

fn cpu() -> Device {
    device(DeviceKind::default()).unwrap()
}

fn tiny_rrdbnet(unshuffle: u32) -> ModelArch {
    ModelArch::RrdbNet {
        num_feat: 4,
        num_block: 1,
        num_grow_ch: 2,
        unshuffle,
    }
}

fn assert_generator_matches(name: &str, arch: ModelArch, scale: u32, device: &Device) {
    let fixture = Fixture::read(name);
    assert_eq!(infer_arch(&fixture.net).unwrap(), (arch.clone(), scale));
    // With gradients some activations take another way to the same values.
    for device in [device.clone(), device.clone().autodiff()] {
        let empty = Generator::new(&arch, scale, 0, &device).unwrap();
        let net = write_state(empty, &fixture.net).unwrap();
        fixture.assert_output(net.forward(fixture.input_on(&device)).inner());
    }
}

#[test]
fn plain_rrdbnet_matches_the_reference() {
    assert_generator_matches("rrdbnet-plain-4x", tiny_rrdbnet(1), 4, &cpu());
}

#[test]
fn unshuffled_rrdbnet_matches_the_reference() {
    assert_generator_matches("rrdbnet-unshuffle-2x", tiny_rrdbnet(2), 2, &cpu());
}

#[test]
fn compact_matches_the_reference() {
    assert_generator_matches(
        "compact-2x",
        ModelArch::Compact {
            num_feat: 4,
            num_conv: 2,
        },
        2,
        &cpu(),
    );
}

#[test]
fn unet_discriminator_matches_the_reference() {
    let fixture = Fixture::read("unet-sn");
    let empty = UnetDiscriminatorConfig { num_feat: 2 }
        .init(&mut Seeded::new(0, &cpu()))
        .unwrap();
    let net = write_state(empty, &fixture.net).unwrap();
    fixture.assert_output(net.forward(fixture.input_on(&cpu())));
    // The fixture's u and v are the exact singular vectors, so an iteration leaves them where they are.
    fixture.assert_output(net.refresh().forward(fixture.input_on(&cpu())));
}

#[test]
fn vgg19_features_match_the_reference() {
    let fixture = Fixture::read("vgg19-narrow");
    let net = Vgg19::from_state(&fixture.net, &cpu()).unwrap();
    fixture.assert_output(net.forward(fixture.input_on(&cpu())));
}

#[test]
fn vgg19_features_are_taken_where_their_names_say_and_in_order() {
    let fixture = Fixture::read("vgg19-narrow");
    let net = Vgg19::from_state(&fixture.net, &cpu()).unwrap();
    let input = || fixture.input_on(&cpu());
    let taps = ["relu5_4", "conv1_2", "relu1_2", "conv5_4"].map(|name| name.parse::<VggTap>().unwrap());
    let found = net.features(input(), &taps);
    assert_eq!(found.len(), 4);
    let alike = |a: &Tensor<4>, b: Tensor<4>| assert_eq!(a.clone().into_data(), b.into_data());
    assert_eq!(
        found[0].dims()[2..],
        input().dims()[2..],
        "no pooling comes before conv1_2"
    );
    alike(&found[1], relu(found[0].clone()));
    alike(&found[2], net.forward(input()));
    alike(&found[3], relu(found[2].clone()));
    let error = "conv2_3".parse::<VggTap>().unwrap_err();
    assert!(error.contains("no layer `conv2_3`"), "{error}");
}

/// Sines of the flat index for weights and pictures, so that no file is needed; PyTorch was given the same.
#[test]
fn vgg_style_discriminator_is_what_pytorch_finds_and_has_its_keys() {
    let sine = |at: usize, key: usize| (0.37 * at as f64 + key as f64).sin();
    for (num_feat, input_size_px, params, expected) in [
        (2, 128, 33, [5.861_964, -0.376_461]),
        (1, 256, 39, [-0.370_929, -0.631_744]),
    ] {
        let config = VggDiscriminatorConfig {
            num_feat,
            input_size_px,
        };
        let net = config.init(&mut Seeded::new(0, &cpu())).unwrap();
        let mut state = read_state(&net);
        assert_eq!(state.len(), params);
        assert!(state.contains_key("conv3_1.weight") && state.contains_key("bn4_0.bias"));
        for (number, (key, tensor)) in state.iter_mut().enumerate() {
            let fan_in: usize = tensor.shape[1..].iter().product();
            let (size, middle) = match tensor.shape.len() {
                1 => (
                    0.1,
                    f64::from(u8::from(key.starts_with("bn") && key.ends_with("weight"))),
                ),
                _ => (1.5 * (2.0 / fan_in as f64).sqrt(), 0.0),
            };
            for (at, value) in tensor.values.iter_mut().enumerate() {
                *value = (middle + size * sine(at, number)) as f32;
            }
        }
        let net = write_state(net, &state).unwrap();
        let count = 2 * 3 * input_size_px * input_size_px;
        let value =
            |at: usize| (0.5 + 0.4 * (0.011 * at as f64 + 3.0 * (0.0007 * at as f64).cos()).sin()) as f32;
        let pictures = TensorData::new(
            (0..count).map(value).collect(),
            [2, 3, input_size_px, input_size_px],
        );
        let logits = net.forward(Tensor::from_data(pictures, &cpu()));
        assert_eq!(logits.dims(), [2, 1, 1, 1]);
        let found = logits.try_into_vec_as::<f32>().unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{found} instead of {expected}");
        }
    }
    let wrong = VggDiscriminatorConfig {
        num_feat: 64,
        input_size_px: 96,
    };
    let error = wrong.init(&mut Seeded::new(0, &cpu())).unwrap_err();
    assert!(error.to_string().contains("128 or 256"), "{error}");
}

#[test]
fn vgg19_without_a_layer_names_it() {
    let mut net = Fixture::read("vgg19-narrow").net;
    net.remove("features.21.bias");
    let error = Vgg19::from_state(&net, &cpu()).unwrap_err().to_string();
    assert!(error.contains("features.21.bias"), "{error}");
}

#[test]
fn power_iteration_brings_the_largest_singular_value_to_one() {
    let mut net = UnetDiscriminatorConfig { num_feat: 2 }
        .init(&mut Seeded::new(3, &cpu()))
        .unwrap();
    for _ in 0..200 {
        net = net.refresh();
    }
    let state = read_state(&net);
    let (w, u, v) = (
        &state["conv7.weight_orig"],
        &state["conv7.weight_u"],
        &state["conv7.weight_v"],
    );
    let columns = v.values.len();
    let product = |row: usize| -> f32 {
        (0..columns)
            .map(|c| w.values[row * columns + c] * v.values[c])
            .sum()
    };
    let sigma: f32 = u.values.iter().enumerate().map(|(row, u)| u * product(row)).sum();
    for (row, u) in u.values.iter().enumerate() {
        assert!((product(row) - sigma * u).abs() < 1e-4, "W v is not sigma u");
    }
}

#[test]
fn a_seed_names_the_same_weights_and_another_seed_others() {
    let arch = ModelArch::Compact {
        num_feat: 4,
        num_conv: 1,
    };
    let state = |seed| read_state(&Generator::new(&arch, 2, seed, &cpu()).unwrap());
    assert_eq!(state(5), state(5));
    assert_ne!(state(5), state(6));
}

#[test]
fn paper_sizes_have_the_published_number_of_parameters() {
    let count = |arch: &ModelArch, scale| Generator::new(arch, scale, 0, &cpu()).unwrap().num_params();
    let compact = ModelArch::Compact {
        num_feat: 64,
        num_conv: 16,
    };
    assert_eq!(count(&compact, 4), 621_424);
    assert_eq!(count(&compact, 2), 600_652);
    let rrdbnet = |num_block| ModelArch::RrdbNet {
        num_feat: 64,
        num_block,
        num_grow_ch: 32,
        unshuffle: 1,
    };
    let (one, two) = (count(&rrdbnet(1), 4), count(&rrdbnet(2), 4));
    assert_eq!(one + 5 * (two - one), 4_467_779);
    assert_eq!(one + 22 * (two - one), 16_697_987);
}

#[test]
fn weights_survive_a_file_bit_by_bit_and_the_file_is_always_the_same() {
    let arch = tiny_rrdbnet(1);
    let state = read_state(&Generator::new(&arch, 2, 9, &cpu()).unwrap());
    let bytes = encode_safetensors(&state);
    assert_eq!(bytes, encode_safetensors(&state.clone()));
    assert_eq!(decode_safetensors(&bytes).unwrap(), state);
    let net = load_model(&bytes, &card(arch, 2), &cpu()).unwrap();
    assert_eq!(read_state(&net), state);
}

#[test]
fn weights_of_another_network_are_refused_by_key_and_shape() {
    let state = read_state(&Generator::new(&tiny_rrdbnet(1), 2, 9, &cpu()).unwrap());
    let bytes = encode_safetensors(&state);
    let error = load_model(&bytes, &card(tiny_rrdbnet(2), 2), &cpu()).unwrap_err();
    let ModelError::Mismatch {
        missing, wrong_shape, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(missing, &["conv_up2.bias", "conv_up2.weight"]);
    assert!(
        wrong_shape[0].starts_with("conv_first.weight [4, 3, 3, 3] instead of"),
        "{wrong_shape:?}"
    );
    assert!(load_model(b"not weights", &card(tiny_rrdbnet(1), 2), &cpu()).is_err());
}

#[test]
fn impossible_networks_are_refused() {
    let with = |unshuffle, scale| Generator::new(&tiny_rrdbnet(unshuffle), scale, 0, &cpu());
    assert!(with(1, 3).is_err());
    assert!(with(3, 2).is_err());
    assert!(with(4, 4).is_err());
    assert!(with(2, 2).is_ok());
    assert!(infer_arch(&StateDict::new()).is_err());
}

#[test]
fn every_scale_makes_pictures_of_its_size_and_is_known_by_its_weights() {
    for (unshuffle, scale) in [(1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2)] {
        let arch = tiny_rrdbnet(unshuffle);
        let net = Generator::new(&arch, scale, 0, &cpu()).unwrap();
        let side = scale as usize;
        let out = net.forward(Tensor::zeros([1, 3, 6, 8], &cpu()));
        assert_eq!(out.dims(), [1, 3, 6 * side, 8 * side], "{unshuffle} {scale}");
        assert_eq!(infer_arch(&read_state(&net)).unwrap(), (arch, scale));
    }
}

#[test]
fn sides_that_do_not_divide_are_padded_and_cropped() {
    let net = Generator::new(&tiny_rrdbnet(2), 2, 1, &cpu()).unwrap();
    let picture = |height_px, width_px| RgbBatch {
        count: 1,
        height_px,
        width_px,
        samples: vec![0.5; 3 * height_px * width_px],
    };
    let odd = upscale_rgb(&net, picture(5, 7)).unwrap();
    assert_eq!(
        (odd.height_px, odd.width_px, odd.samples.len()),
        (10, 14, 3 * 10 * 14)
    );
    // A flat picture padded by its edge is the same flat picture, so the common corner agrees.
    let even = upscale_rgb(&net, picture(6, 8)).unwrap();
    assert_eq!(odd.samples[..4], even.samples[..4]);
    assert!(
        upscale_rgb(
            &net,
            RgbBatch {
                count: 2,
                height_px: 4,
                width_px: 4,
                samples: vec![0.0; 48]
            }
        )
        .is_err()
    );
}

#[test]
fn training_device_takes_gradients_to_every_weight() {
    let device = cpu().autodiff();
    let net = Generator::new(&tiny_rrdbnet(1), 2, 1, &device).unwrap();
    let x = Tensor::<4>::ones([1, 3, 4, 4], &device);
    let grads = burn::optim::GradientsParams::from_grads(net.forward(x).square().mean().backward(), &net);
    assert_eq!(grads.len(), read_state(&net).len());
}

#[cfg(feature = "flex")]
#[test]
fn both_backends_agree_with_the_reference() {
    let flex = device(DeviceKind::Flex).unwrap();
    assert_generator_matches("rrdbnet-plain-4x", tiny_rrdbnet(1), 4, &flex);
    assert_generator_matches("rrdbnet-unshuffle-2x", tiny_rrdbnet(2), 2, &flex);
    assert_generator_matches(
        "compact-2x",
        ModelArch::Compact {
            num_feat: 4,
            num_conv: 2,
        },
        2,
        &flex,
    );
}

fn card(arch: ModelArch, scale: u32) -> ModelCard {
    ModelCard {
        version: 1,
        arch,
        scale,
        lattice: Lattice::SdNative,
        sar: None,
        input_lines: None,
        input_colour: InputColour {
            matrix: "bt601".into(),
            range: "tv".into(),
        },
        chroma_filter: "bilinear-left".into(),
        colour_target: "sd".into(),
        colour_cube: None,
        run: None,
        dataset: None,
        recipe: None,
        metrics: vec![],
        parent: None,
        licence_note: String::new(),
    }
}

/// A part of a picture with the network's whole reach around it, cut out of what comes of it.
fn through_a_part(generator: &Generator, picture: &RgbBatch, x: usize, y: usize, side_px: usize) -> Vec<f32> {
    let reach_px = generator.reach_px();
    let (left, top) = (x.saturating_sub(reach_px), y.saturating_sub(reach_px));
    let right = (x + side_px + reach_px).min(picture.width_px);
    let bottom = (y + side_px + reach_px).min(picture.height_px);
    let part = RgbBatch {
        count: 1,
        height_px: bottom - top,
        width_px: right - left,
        samples: cut(picture, left, top, right - left, bottom - top),
    };
    let made = upscale_rgb(generator, part).unwrap();
    cut(&made, 2 * (x - left), 2 * (y - top), 2 * side_px, 2 * side_px)
}

fn cut(picture: &RgbBatch, x: usize, y: usize, width_px: usize, height_px: usize) -> Vec<f32> {
    let planes = picture.samples.chunks_exact(picture.width_px * picture.height_px);
    planes
        .flat_map(|plane| plane.chunks_exact(picture.width_px).skip(y).take(height_px))
        .flat_map(|line| &line[x..x + width_px])
        .copied()
        .collect()
}

#[test]
fn a_part_with_the_networks_reach_around_it_comes_out_as_within_the_whole() {
    let compact = ModelArch::Compact {
        num_feat: 24,
        num_conv: 3,
    };
    let rrdbnet = |unshuffle| ModelArch::RrdbNet {
        num_feat: 16,
        num_block: 1,
        num_grow_ch: 8,
        unshuffle,
    };
    let samples = (0..3 * 88 * 96_u32).map(|i| ((i * 7919) % 256) as f32 / 255.0);
    let picture = RgbBatch {
        count: 1,
        height_px: 88,
        width_px: 96,
        samples: samples.collect(),
    };
    for arch in [compact, rrdbnet(1), rrdbnet(2)] {
        let generator = Generator::new(&arch, 2, 3, &cpu()).unwrap();
        let whole = upscale_rgb(&generator, picture.clone()).unwrap();
        let side_px = 24 * generator.size_multiple_px() + 8;
        for (x, y) in [(40, 32), (0, 0), (96 - side_px, 88 - side_px)] {
            let expected = cut(&whole, 2 * x, 2 * y, 2 * side_px, 2 * side_px);
            assert!(
                through_a_part(&generator, &picture, x, y, side_px) == expected,
                "{arch:?} at {x}, {y}"
            );
        }
    }
}
