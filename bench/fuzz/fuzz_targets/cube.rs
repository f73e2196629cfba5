//! `.cube` files: a table that is accepted gives numbers for every colour.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remaster_domain::Cube;

const COLOURS: [[f32; 3]; 5] = [
    [0.0, 0.0, 0.0],
    [1.0, 1.0, 1.0],
    [0.2, 0.5, 0.8],
    [0.9, 0.3, 0.3],
    [-1.0, 2.0, 0.5],
];

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(cube) = Cube::parse(&text) else {
        return;
    };
    for colour in COLOURS {
        let made = cube.apply(colour);
        assert!(
            made.iter().all(|value| value.is_finite()),
            "{colour:?} became {made:?}"
        );
    }
});
