//! Runs a weights file on the tensor `input` of a safetensors file and writes `output`, for comparison with other tools:
//! `cargo run -p remaster-model --example forward -- WEIGHTS IN.safetensors OUT.safetensors`

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use remaster_model::{
    DeviceKind, HostTensor, decode_safetensors, device, encode_safetensors, fill_model, read_weights,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, input, output] = arguments.as_slice() else {
        return Err("expected WEIGHTS IN.safetensors OUT.safetensors".into());
    };
    let device = device(DeviceKind::default())?;
    let weights = read_weights(Path::new(weights))?;
    let net = fill_model(&weights.state, &weights.arch, weights.scale, &device)?;
    let mut tensors = decode_safetensors(&std::fs::read(input)?)?;
    let input = tensors.remove("input").ok_or("no tensor `input`")?;
    let made = net.forward(Tensor::<4>::from_data(
        TensorData::new(input.values, input.shape),
        &device,
    ));
    let shape = made.dims().to_vec();
    let values = made
        .try_into_vec_as::<f32>()
        .map_err(|error| format!("unreadable output: {error}"))?;
    let made = [("output".to_owned(), HostTensor { shape, values })];
    std::fs::write(output, encode_safetensors(&made.into()))?;
    Ok(())
}
