//! What can go wrong with a network: a shape that does not exist or weights that do not fit. None of it goes away
//! by trying again.

/// Why a network could not be built or filled.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A network that cannot exist.
    #[error("the network cannot be built: {0}")]
    Arch(String),
    /// A file that cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Bytes that are no file of weights, or a damaged one.
    #[error("the weights cannot be read: {0}")]
    Format(String),
    /// A file that wants more than tensors: reading it as Python does could run anything.
    #[error(
        "the weights ask for `{0}`, which no tensor needs: refused, nothing of it was run. Save only the network's \
         tensors (`torch.save(net.state_dict(), ...)`) or take a .safetensors file"
    )]
    Code(String),
    /// Weights of another network.
    #[error(
        "the weights do not fit the network: {}",
        list(missing, unexpected, wrong_shape)
    )]
    Mismatch {
        /// Keys the network has and the file has not.
        missing: Vec<String>,
        /// Keys the file has and the network has not.
        unexpected: Vec<String>,
        /// Keys of another shape, with both shapes.
        wrong_shape: Vec<String>,
    },
    /// Weights that say of no known network.
    #[error("the weights are of no network known here (RRDBNet in its three namings, Compact): {0}")]
    Unknown(String),
    /// A picture the network cannot take.
    #[error("the picture does not fit the network: {0}")]
    Picture(String),
    /// A device this build does not have.
    #[error("device `{0}` is not in this build: build with the feature of that name")]
    Device(&'static str),
    /// A GPU that libtorch does not see.
    #[error(
        "there is no GPU {index}: libtorch sees {seen}; take another number or `cpu`, look for the GPU with nvidia-smi, \
         and set up the CUDA libtorch by TORCH_VARIANT=cuda make setup"
    )]
    NoGpu {
        /// The number that was asked for, from 0.
        index: usize,
        /// How many there are.
        seen: usize,
    },
}

impl ModelError {
    /// Whether the same call may go well later. Never: each is decided by its input.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// Names shown of each kind: enough to see the pattern, few enough for one line.
const NAMES_SHOWN_MAX: usize = 4;

fn list(missing: &[String], unexpected: &[String], wrong_shape: &[String]) -> String {
    let part = |title: &str, names: &[String]| {
        let shown = names
            .iter()
            .take(NAMES_SHOWN_MAX)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
        match (names.len(), more) {
            (0, _) => None,
            (_, 0) => Some(format!("{title} {shown}")),
            (_, _) => Some(format!("{title} {shown} and {more} more")),
        }
    };
    let parts = [
        part("missing", missing),
        part("unexpected", unexpected),
        part("of another shape", wrong_shape),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
