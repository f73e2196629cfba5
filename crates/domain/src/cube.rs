//! `.cube` files: a table of colours that a colourist made, as Adobe's and DaVinci's programs write it. Reads the text and
//! moves one colour; pictures and files are others'.
//!
//! Between the points of a three-dimensional table a colour is mixed from the four corners of the tetrahedron that it lies in,
//! as grading programs do, so greys stay grey.

/// Points along a side: more are not in use, and a table of them takes 25 MB.
const SIDE_MAX: usize = 129;
/// Points of three curves.
const CURVE_MAX: usize = 65_536;
/// The largest number in a table, either way: tables of scene light end at 65,504, and what is mixed of these stays a number.
const NUMBER_MAX: f32 = 1e6;

/// A line that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CubeError {
    /// A line that says nothing known.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A table that is not whole.
    #[error("{found} of {expected} colours: the file is cut off, or its size is wrong")]
    Count {
        /// Rows of numbers.
        found: usize,
        /// What its size says.
        expected: usize,
    },
    /// No size at all.
    #[error("it has neither LUT_3D_SIZE nor LUT_1D_SIZE: is it a .cube file?")]
    NoSize,
}

impl CubeError {
    /// Never: the same text reads alike next time.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// A table of colours; red varies fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Cube {
    /// Points along each side, or of each curve.
    side: usize,
    is_curves: bool,
    rows: Vec<[f32; 3]>,
    domain: [[f32; 3]; 2],
}

impl Cube {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str) -> Result<Self, CubeError> {
        let mut size = None;
        let mut domain = [[0.0; 3], [1.0; 3]];
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let failed = |reason: &str| CubeError::Line {
                line: number + 1,
                reason: reason.to_owned(),
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] | ["TITLE", ..] => {}
                [comment, ..] if comment.starts_with('#') => {}
                ["LUT_3D_SIZE", side] => {
                    size = Some((parse_side(side, SIDE_MAX).map_err(|e| failed(&e))?, false))
                }
                ["LUT_1D_SIZE", side] => {
                    size = Some((parse_side(side, CURVE_MAX).map_err(|e| failed(&e))?, true))
                }
                ["DOMAIN_MIN", rest @ ..] => domain[0] = colour(rest).ok_or_else(|| failed(NO_COLOUR))?,
                ["DOMAIN_MAX", rest @ ..] => domain[1] = colour(rest).ok_or_else(|| failed(NO_COLOUR))?,
                ["LUT_3D_INPUT_RANGE" | "LUT_1D_INPUT_RANGE", low, high] => {
                    let both = value(low).zip(value(high));
                    let (low, high) = both.ok_or_else(|| failed("expected two numbers"))?;
                    domain = [[low; 3], [high; 3]];
                }
                numbers => rows.push(colour(numbers).ok_or_else(|| failed(NO_COLOUR))?),
            }
            if rows.len() > SIDE_MAX.pow(3) {
                return Err(failed("it has more colours than any table"));
            }
        }
        let (side, is_curves) = size.ok_or(CubeError::NoSize)?;
        let (found, expected) = (rows.len(), if is_curves { side } else { side.pow(3) });
        if found != expected {
            return Err(CubeError::Count { found, expected });
        }
        if (0..3).any(|channel| domain[0][channel] >= domain[1][channel]) {
            return Err(CubeError::Line {
                line: 1,
                reason: "its domain is empty".to_owned(),
            });
        }
        Ok(Self {
            side,
            is_curves,
            rows,
            domain,
        })
    }

    /// The colour that takes the place of another one; what lies outside the domain is taken for its edge.
    #[must_use]
    pub fn apply(&self, rgb: [f32; 3]) -> [f32; 3] {
        let last = (self.side - 1) as f32;
        let [low, high] = self.domain;
        let at: [f32; 3] = std::array::from_fn(|channel| {
            let share = (rgb[channel] - low[channel]) / (high[channel] - low[channel]);
            share.clamp(0.0, 1.0) * last
        });
        let point = at.map(|at| (at as usize).min(self.side - 2));
        let rest: [f32; 3] = std::array::from_fn(|channel| at[channel] - point[channel] as f32);
        if self.is_curves {
            return std::array::from_fn(|channel| {
                let [low, high] = [0, 1].map(|step| self.rows[point[channel] + step][channel]);
                low + (high - low) * rest[channel]
            });
        }
        self.mix(point, rest)
    }

    /// From a corner of a cell along its sides, the longest first.
    fn mix(&self, point: [usize; 3], rest: [f32; 3]) -> [f32; 3] {
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| rest[b].total_cmp(&rest[a]));
        let mut corner = point;
        let mut before = self.row(corner);
        let mut made = before;
        for channel in order {
            corner[channel] += 1;
            let next = self.row(corner);
            for (made, (next, before)) in made.iter_mut().zip(next.into_iter().zip(before)) {
                *made += (next - before) * rest[channel];
            }
            before = next;
        }
        made
    }

    fn row(&self, [red, green, blue]: [usize; 3]) -> [f32; 3] {
        self.rows[red + self.side * (green + self.side * blue)]
    }
}

const NO_COLOUR: &str = "expected three numbers";

fn colour(words: &[&str]) -> Option<[f32; 3]> {
    let &[red, green, blue] = words else {
        return None;
    };
    Some([value(red)?, value(green)?, value(blue)?])
}

fn value(word: &str) -> Option<f32> {
    word.parse()
        .ok()
        .filter(|number: &f32| number.abs() <= NUMBER_MAX)
}

fn parse_side(word: &str, max: usize) -> Result<usize, String> {
    let side = word.parse().ok().filter(|side| (2..=max).contains(side));
    side.ok_or_else(|| format!("a size of {word}, expected 2 to {max}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A table of what `change` makes of each point.
    fn table(side: usize, change: impl Fn([f32; 3]) -> [f32; 3]) -> String {
        let mut text = format!("# a comment\nTITLE \"a grade\"\nLUT_3D_SIZE {side}\n\n");
        for i in 0..side.pow(3) {
            let point = [i % side, i / side % side, i / side / side];
            let [r, g, b] = change(point.map(|p| p as f32 / (side - 1) as f32));
            text.push_str(&format!("{r} {g} {b}\n"));
        }
        text
    }

    #[test]
    fn what_is_linear_between_the_points_comes_out_exactly() {
        let change = |[r, g, b]: [f32; 3]| [0.5 * r + 0.25 * g, 1.0 - b, 0.1 + 0.8 * g];
        let cube = Cube::parse(&table(5, change)).unwrap();
        for colour in [
            [0.0, 0.0, 0.0],
            [1.0, 1.0, 1.0],
            [0.31, 0.77, 0.05],
            [0.9, 0.1, 0.52],
        ] {
            for (made, wanted) in cube.apply(colour).into_iter().zip(change(colour)) {
                assert!((made - wanted).abs() < 1e-6, "{colour:?}");
            }
        }
        assert_eq!(cube.apply([-0.5, 0.0, 2.0]), cube.apply([0.0, 0.0, 1.0]));
    }

    #[test]
    fn greys_stay_grey_and_curves_and_domains_are_followed() {
        let gamma = |rgb: [f32; 3]| rgb.map(|value| value * value);
        let cube = Cube::parse(&table(9, gamma)).unwrap();
        let [r, g, b] = cube.apply([0.43; 3]);
        assert!(r == g && g == b);
        let curves = Cube::parse("LUT_1D_SIZE 2\nDOMAIN_MAX 2 2 2\n0 0 1\n1 2 0\n").unwrap();
        assert_eq!(curves.apply([1.0, 1.0, 1.0]), [0.5, 1.0, 0.5]);
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        for (text, words) in [
            ("", "neither LUT_3D_SIZE"),
            ("LUT_3D_SIZE 1\n", "line 1: a size of 1"),
            ("LUT_3D_SIZE 2\n0 0\n", "line 2: expected three numbers"),
            ("LUT_3D_SIZE 2\n0 0 nan\n", "line 2"),
            ("LUT_3D_SIZE 2\n0 0 -3e38\n", "line 2"),
            (
                "LUT_1D_SIZE 2\nLUT_1D_INPUT_RANGE nan 1\n0 0 0\n1 1 1\n",
                "line 2: expected two numbers",
            ),
            (
                "LUT_1D_SIZE 2\nLUT_1D_INPUT_RANGE -inf inf\n0 0 0\n1 1 1\n",
                "line 2: expected two numbers",
            ),
            ("LUT_3D_SIZE 2\n0 0 0\n", "1 of 8 colours"),
            (
                "LUT_1D_SIZE 2\nDOMAIN_MAX 0 1 1\n0 0 0\n1 1 1\n",
                "domain is empty",
            ),
        ] {
            let error = Cube::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
