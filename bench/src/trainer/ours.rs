//! Our side of the comparison: the trainer's own step on batches made here, and everything that the other side needs
//! to begin with the very same weights.

use remaster_model::{DeviceKind, HostTensor, StateDict, Vgg19, device, read_state};
use remaster_trainer::data::Batch;
use remaster_trainer::recipe::Recipe;
use remaster_trainer::step::{Networks, Objective, StepReport};

/// Batches made; steps go round them.
pub(super) const BATCHES: usize = 10;

/// One shape to compare at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) title: &'static str,
    pub(super) num_feat: usize,
    pub(super) num_block: usize,
    num_grow_ch: usize,
    batch_size: usize,
    lq_size_px: usize,
    pub(super) gan: bool,
}

pub(super) const SMALL: Case = Case {
    title: "nf 16, nb 2, gc 8, batch 2, lr 32",
    num_feat: 16,
    num_block: 2,
    num_grow_ch: 8,
    batch_size: 2,
    lq_size_px: 32,
    gan: false,
};
pub(super) const SMALL_GAN: Case = Case { gan: true, ..SMALL };
pub(super) const TWO_BLOCKS: Case = Case {
    title: "nf 64, nb 2, gc 32, batch 4, lr 64",
    num_feat: 64,
    num_block: 2,
    num_grow_ch: 32,
    batch_size: 4,
    lq_size_px: 64,
    gan: false,
};
pub(super) const FOUR_BLOCKS: Case = Case {
    title: "nf 64, nb 4, gc 32, batch 2, lr 96",
    num_feat: 64,
    num_block: 4,
    num_grow_ch: 32,
    batch_size: 2,
    lq_size_px: 96,
    gan: false,
};

/// Networks, batches and how far they are.
pub(super) struct Ours {
    networks: Networks,
    recipe: Recipe,
    vgg: Option<(StateDict, Vgg19)>,
    batches: Vec<Batch>,
    device: burn::tensor::Device,
    stage_step: u64,
}

impl Ours {
    pub(super) fn new(case: &Case) -> anyhow::Result<Self> {
        let device = device(DeviceKind::default())?;
        let recipe = Recipe::resolve(&recipe(case))?;
        let networks = Networks::new(&recipe.network_g.arch(), 2, &recipe, 3, &device)?;
        let vgg = if case.gan {
            let state = random_vgg();
            let vgg = Vgg19::from_state(&state, &device.clone().autodiff())?;
            Some((state, vgg))
        } else {
            None
        };
        let batches = (0..BATCHES).map(|number| batch(number, case)).collect();
        Ok(Self {
            networks,
            recipe,
            vgg,
            batches,
            device,
            stage_step: 0,
        })
    }

    /// One step on a batch, of the discriminator alone where that is wished.
    pub(super) fn step(&mut self, number: usize, discriminator_alone: bool) -> anyhow::Result<StepReport> {
        let mut stage = self.recipe.stages[0].clone();
        stage.net_d_init_iters = if discriminator_alone { u64::MAX } else { 0 };
        let objective = Objective {
            stage: &stage,
            stage_step: self.stage_step,
            vgg: self.vgg.as_ref().map(|(_, vgg)| vgg),
            rate_share: 1.0,
        };
        self.stage_step += 1;
        let batches = std::slice::from_ref(&self.batches[number % BATCHES]);
        Ok(self.networks.step(batches, objective, &self.device)?)
    }

    /// Weights and batches under the names that the peer knows.
    pub(super) fn state(&self) -> StateDict {
        let mut all = StateDict::new();
        let mut add = |prefix: String, state: StateDict| {
            all.extend(
                state
                    .into_iter()
                    .map(|(key, tensor)| (format!("{prefix}{key}"), tensor)),
            );
        };
        add("generator/".to_owned(), read_state(&self.networks.generator));
        if let Some(discriminator) = &self.networks.discriminator {
            add("discriminator/".to_owned(), read_state(discriminator));
        }
        if let Some((state, _)) = &self.vgg {
            add("vgg/".to_owned(), state.clone());
        }
        for batch in &self.batches {
            let tensor = |values: &[f32], side: usize| HostTensor {
                shape: vec![batch.count, 3, side, side],
                values: values.to_vec(),
            };
            let both = StateDict::from([
                ("lr".to_owned(), tensor(&batch.lr, batch.lq_size_px)),
                ("hr".to_owned(), tensor(&batch.hr, batch.gt_size_px)),
            ]);
            add(format!("batch/{}/", batch.number), both);
        }
        all
    }
}

fn recipe(case: &Case) -> String {
    let gan = r#"perceptual_opt = { loss_weight = 1.0 }
gan_opt = { type = "ragan", loss_weight = 5e-3 }"#;
    format!(
        r#"name = "peer"
[network_g]
type = "RRDBNet"
num_feat = {}
num_block = {}
num_grow_ch = {}
[network_d]
type = "UNetDiscriminatorSN"
num_feat = 16
[datasets.train]
lq_size = {}
batch_size = {}
[[stage]]
name = "peer"
total_iter = 1000
optim_g = {{ type = "Adam", lr = 1e-4, betas = [0.9, 0.99] }}
pixel_opt = {{ type = "L1", loss_weight = {} }}
{}
"#,
        case.num_feat,
        case.num_block,
        case.num_grow_ch,
        case.lq_size_px,
        case.batch_size,
        if case.gan { "1e-2" } else { "1.0" },
        if case.gan { gan } else { "" }
    )
}

/// Waves with edges, and their averages as LR.
fn batch(number: usize, case: &Case) -> Batch {
    let (lq, gt) = (case.lq_size_px, case.lq_size_px * 2);
    let value = |picture: usize, channel: usize, y: usize, x: usize| {
        let phase = (number * 7 + picture * 3 + channel) as f32;
        let wave = (x as f32 * 0.31 + phase).sin() * (y as f32 * 0.17 + phase * 0.5).cos();
        let edge = if (x * 3 + y * 2 + number).is_multiple_of(13) {
            0.3
        } else {
            0.0
        };
        (0.4 + 0.3 * wave + edge).clamp(0.0, 1.0)
    };
    let (mut lr, mut hr) = (vec![], vec![]);
    for picture in 0..case.batch_size {
        for channel in 0..3 {
            let at = |y: usize, x: usize| value(picture, channel, y, x);
            hr.extend((0..gt * gt).map(|i| at(i / gt, i % gt)));
            lr.extend((0..lq * lq).map(|i| {
                let (y, x) = (i / lq * 2, i % lq * 2);
                (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 4.0
            }));
        }
    }
    Batch {
        number: number as u64,
        count: case.batch_size,
        lq_size_px: lq,
        gt_size_px: gt,
        lr,
        hr,
        counts: vec![],
    }
}

/// VGG19's layers at an eighth of their width, with weights that keep the size of what goes through.
fn random_vgg() -> StateDict {
    let layers = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34];
    let widths = [8, 8, 16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 64, 64, 64, 64];
    let (mut state, mut from, mut noise) = (StateDict::new(), 3, 0x2545_f491_4f6c_dd1d_u64);
    let mut draw = move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        (noise >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    for (number, to) in layers.into_iter().zip(widths) {
        let bound = (6.0 / (from * 9) as f32).sqrt();
        let values = (0..to * from * 9).map(|_| draw() * bound).collect();
        state.insert(
            format!("features.{number}.weight"),
            HostTensor {
                shape: vec![to, from, 3, 3],
                values,
            },
        );
        let values = (0..to).map(|_| draw() * 0.1).collect();
        state.insert(
            format!("features.{number}.bias"),
            HostTensor {
                shape: vec![to],
                values,
            },
        );
        from = to;
    }
    state
}
