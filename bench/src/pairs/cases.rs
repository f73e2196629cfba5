//! The cases: what can be wrong between two discs of one film, each with its truth and what must come of it.
//!
//! Letters are groups of trouble: A offsets, B edits, C held drawings, D geometry, E colour, F fields, G overlays, H damage,
//! J pairs of files that must be refused, K what containers and codecs do to time. I, repeats between episodes, is in `series`.

use remaster_domain::{ActiveArea, Lattice, MaskRect, Transform};

use super::disc::{
    Container, DvdPlan, Grade, LostPacket, Overlay, SD_HEIGHT_PX, SD_WIDTH_PX, Shown, whole_area,
    whole_picture,
};
use super::film::{HD_HEIGHT_PX, HD_WIDTH_PX};

/// Masters that the cases use: 20 seconds with eight shots.
pub(super) const FILM_FRAMES: usize = 480;
/// Frames of a disc without edits.
const DISC_FRAMES: usize = 264;

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expect {
    /// Pairs, all of them right.
    Pairs,
    /// No pair that is wrong; none at all will do.
    NoWrongPair,
    /// A refusal that says this.
    Refusal(&'static str),
}

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// Group and what is wrong.
    pub(super) name: &'static str,
    /// The DVD.
    pub(super) dvd: DvdPlan,
    /// The Blu-ray, frame by frame.
    pub(super) bluray: Vec<Shown>,
    /// What the Blu-ray's frames lie in.
    pub(super) bluray_in: Container,
    /// What must come of it.
    pub(super) expect: Expect,
    /// On whose pixels the pairs shall lie.
    pub(super) lattice: Lattice,
    /// Most pairs to choose.
    pub(super) pairs_max: u32,
    /// The DVD is cut off after this share of its bytes.
    pub(super) cut_off: Option<f64>,
    /// Among the few that run as a test.
    pub(super) is_quick: bool,
}

/// All cases.
pub(super) fn all() -> Vec<Case> {
    [
        offsets(),
        edits(),
        holds(),
        geometry(),
        colours(),
        fields(),
        slopes(),
        overlays(),
        damage(),
        refusals(),
        jitter(),
    ]
    .concat()
}

fn film(frames: std::ops::Range<usize>) -> Vec<Shown> {
    frames.map(Shown::Film).collect()
}

/// Two discs that differ by nine frames at the start, and by what discs always differ by.
pub(super) fn plain(name: &'static str) -> Case {
    let dvd = DvdPlan {
        frames: film(9..DISC_FRAMES),
        transform: whole_picture(),
        active: whole_area(),
        grade: Grade::None,
        noise_levels: 0.0,
        overlay: None,
        matrix: "470bg",
        range: "limited",
        interlaced: false,
        ffmpeg_geometry: None,
        kbits: 2200,
        container: Container::Matroska,
        lost: None,
    };
    Case {
        name,
        dvd,
        bluray: film(0..DISC_FRAMES),
        bluray_in: Container::Matroska,
        expect: Expect::Pairs,
        lattice: Lattice::SdNative,
        pairs_max: 48,
        cut_off: None,
        is_quick: false,
    }
}

fn offsets() -> Vec<Case> {
    let mut ahead = plain("A dvd starts 96 later");
    ahead.dvd.frames = film(96..360);
    let mut behind = plain("A dvd starts 150 earlier");
    behind.dvd.frames = film(0..480);
    behind.bluray = film(150..450);
    vec![ahead, behind]
}

fn edits() -> Vec<Case> {
    let mut cuts = plain("B cuts, black, lost scene");
    cuts.is_quick = true;
    let black = |count: usize| vec![Shown::Black; count];
    cuts.dvd.frames = [black(20), film(0..150), film(162..300), black(20), film(300..480)].concat();
    cuts.bluray = [film(0..230), black(30), film(230..340), film(412..480)].concat();
    cuts.pairs_max = 96;
    let mut swapped = plain("B two scenes swapped");
    swapped.dvd.frames = [film(0..104), film(239..330), film(104..239), film(330..480)].concat();
    swapped.bluray = film(0..480);
    swapped.pairs_max = 96;
    vec![cuts, swapped]
}

fn holds() -> Vec<Case> {
    let held = |name, hold: usize| {
        let mut case = plain(name);
        let frames = |from: usize| {
            (from..DISC_FRAMES)
                .map(|f| Shown::Film(f / hold * hold))
                .collect()
        };
        case.dvd.frames = frames(9);
        case.bluray = frames(0);
        case.dvd.noise_levels = 2.0;
        case
    };
    let mut still = plain("C static shot of 5 s");
    let frames = |from: usize| [film(from..150), vec![Shown::Film(150); 120], film(150..264)].concat();
    still.dvd.frames = frames(9);
    still.bluray = frames(0);
    still.dvd.noise_levels = 2.0;
    vec![held("C held on twos", 2), held("C held on fours", 4), still]
}

/// The picture of a master on a rectangle of SD pixels; fractions are allowed.
fn placed(x: f64, y: f64, width: f64, height: f64) -> Transform {
    let (sx, sy) = (HD_WIDTH_PX as f64 / width, HD_HEIGHT_PX as f64 / height);
    Transform {
        sx,
        sy,
        tx: -sx * x,
        ty: -sy * y,
    }
}

fn geometry() -> Vec<Case> {
    let (width, height) = (SD_WIDTH_PX as f64, SD_HEIGHT_PX as f64);
    let area = |x: u32, y: u32, width: u32, height: u32| ActiveArea { x, y, width, height };
    let case = |name, transform, active| {
        let mut case = plain(name);
        case.dvd.transform = transform;
        case.dvd.active = active;
        case.pairs_max = 12;
        case
    };
    let mut second = case(
        "D by ffmpeg: 352x287 at 4,1",
        placed(4.0, 1.0, 352.0, 287.0),
        area(4, 1, 352, 287),
    );
    second.dvd.ffmpeg_geometry = Some("zscale=w=352:h=287:filter=bicubic,pad=360:288:4:1:black");
    second.is_quick = true;
    let mut on_hd = Case {
        name: "D 352x287 at 4,1, hd-native",
        ..second.clone()
    };
    on_hd.lattice = Lattice::HdNative;
    vec![
        second,
        on_hd,
        case(
            "D 351 wide, bar of 3 at the left",
            placed(3.0, 0.0, 351.0, height),
            area(3, 0, 351, 288),
        ),
        case(
            "D shift 0.75,-1.25, scale +1 %",
            placed(0.75, -1.25, width * 1.01, height * 1.01),
            whole_area(),
        ),
        case(
            "D shift -2.5,2.25, scale -1 %",
            placed(-2.5, 2.25, width * 0.99, height * 0.99),
            area(0, 3, 353, 284),
        ),
        case(
            "D 285 lines, bar at the bottom",
            placed(0.0, 0.0, width, 285.0),
            area(0, 0, 360, 285),
        ),
    ]
}

fn colours() -> Vec<Case> {
    let case = |name, grade| {
        let mut case = plain(name);
        case.dvd.grade = grade;
        case.pairs_max = 24;
        case
    };
    let grey = |saturation: f32, gain: f32, lift: f32| {
        let weights = [0.299, 0.587, 0.114];
        let row = |c: usize| {
            let mix =
                |k: usize| gain * ((1.0 - saturation) * weights[k] + if k == c { saturation } else { 0.0 });
            [mix(0), mix(1), mix(2), lift]
        };
        Grade::Matrix([row(0), row(1), row(2)])
    };
    let warm = Grade::Matrix([
        [0.93, 0.05, 0.0, 0.02],
        [0.02, 0.95, 0.01, 0.01],
        [0.0, 0.03, 0.88, 0.0],
    ]);
    let mut swapped = case("E coded as 709, tagged 601", Grade::None);
    swapped.dvd.matrix = "709";
    let mut full = case("E full range, tagged limited", Grade::None);
    full.dvd.range = "full";
    let mut matrix = case("E warm grade", warm);
    matrix.is_quick = true;
    vec![
        swapped,
        full,
        matrix,
        case("E gamma 0.88", Grade::Gamma(0.88)),
        case("E saturation 0.9, whites clipped", grey(0.9, 1.12, 0.0)),
    ]
}

fn fields() -> Vec<Case> {
    let case = |name, frames: Vec<Shown>, expect| {
        let mut case = plain(name);
        case.dvd.frames = frames;
        case.dvd.interlaced = true;
        case.expect = expect;
        case
    };
    let flagged = case(
        "F progressive, flagged interlaced",
        film(9..DISC_FRAMES),
        Expect::Pairs,
    );
    let woven = |f: usize| Shown::Woven(f, f + 1);
    let mut shifted = case(
        "F field-shifted",
        (9..DISC_FRAMES).map(woven).collect(),
        Expect::Pairs,
    );
    shifted.is_quick = true;
    let mut patch = film(9..DISC_FRAMES);
    patch[80..180]
        .iter_mut()
        .enumerate()
        .for_each(|(i, f)| *f = woven(89 + i));
    let patch = case("F field-shifted in between", patch, Expect::Pairs);
    let fifty = (0..DISC_FRAMES / 2)
        .map(|i| Shown::Woven(2 * i, 2 * i + 1))
        .collect();
    let mut true_interlace = case("F true 50i", fifty, Expect::NoWrongPair);
    true_interlace.bluray = (0..DISC_FRAMES / 2).map(|i| Shown::Film(2 * i)).collect();
    let share = |i: usize| [0.1, 0.25, 0.5][i % 3];
    let blend = |f: usize| {
        if f.is_multiple_of(2) {
            Shown::Film(f)
        } else {
            Shown::Blend(f, f + 1, share(f))
        }
    };
    let mut blended = case(
        "F every other frame blended",
        (9..DISC_FRAMES - 1).map(blend).collect(),
        Expect::Pairs,
    );
    blended.dvd.interlaced = false;
    blended.is_quick = true;
    vec![flagged, shifted, patch, true_interlace, blended]
}

/// Discs that count frames differently.
fn slopes() -> Vec<Case> {
    let case = |name, frames: Vec<Shown>| {
        let mut case = plain(name);
        case.dvd.frames = frames;
        case
    };
    let repeated = case(
        "A 24 frames and one again",
        (0..DISC_FRAMES).map(|i| Shown::Film(i * 24 / 25)).collect(),
    );
    let woven = |f: usize| Shown::Woven(f, f + 1);
    let five = |f: usize| {
        [
            Shown::Film(f),
            Shown::Film(f + 1),
            woven(f + 1),
            woven(f + 2),
            Shown::Film(f + 3),
        ]
    };
    let mut pulled = case(
        "A 24 frames to 30 by pulldown",
        (8..DISC_FRAMES - 4).step_by(4).flat_map(five).collect(),
    );
    pulled.dvd.interlaced = true;
    pulled.is_quick = true;
    // Pulled down before it was cut, so the cadence starts anew.
    let mut recut = pulled.clone();
    recut.name = "B pulldown, cut after it";
    recut.is_quick = false;
    recut.dvd.frames = (8..480 - 4).step_by(4).flat_map(five).collect();
    recut.dvd.frames.drain(240..273);
    recut.bluray = film(0..480);
    let mut doubled = case(
        "A every frame twice on the dvd",
        (0..DISC_FRAMES).map(|i| Shown::Film(6 + i / 2)).collect(),
    );
    doubled.pairs_max = 24;
    let mut fast = case(
        "A 50 frames on the blu-ray",
        (10..DISC_FRAMES).step_by(2).map(Shown::Film).collect(),
    );
    fast.pairs_max = 24;
    let mix = |i: usize| {
        let moment = 4.0 + i as f32 * 24.0 / 25.0;
        Shown::Blend(moment as usize, moment as usize + 1, moment.fract())
    };
    let mut converted = case(
        "J converted between standards",
        (0..DISC_FRAMES - 8).map(mix).collect(),
    );
    converted.expect = Expect::Refusal("converted between tv standards");
    vec![repeated, pulled, recut, doubled, fast, converted]
}

fn overlays() -> Vec<Case> {
    let case = |name, place, period, on| {
        let mut case = plain(name);
        case.dvd.overlay = Some(Overlay { place, period, on });
        case
    };
    let logo = MaskRect {
        x: 300,
        y: 24,
        width: 36,
        height: 20,
    };
    let words = MaskRect {
        x: 96,
        y: 244,
        width: 168,
        height: 24,
    };
    let mut subtitles = case("G subtitles half of the time", words, 96, 48);
    subtitles.is_quick = true;
    vec![case("G logo", logo, 1, 1), subtitles]
}

fn damage() -> Vec<Case> {
    let mut noisy = plain("H noise of 5 levels");
    noisy.dvd.noise_levels = 5.0;
    let mut starved = plain("H 700 kbit/s");
    starved.dvd.kbits = 700;
    vec![noisy, starved]
}

fn refusals() -> Vec<Case> {
    let refused = |name, word| {
        let mut case = plain(name);
        case.expect = Expect::Refusal(word);
        case
    };
    let mut other = refused("J another episode", "another episode");
    other.dvd.frames = film(0..200);
    other.bluray = film(240..480);
    let mut half = refused("J half of a two-parter", "another cut");
    half.dvd.frames = film(0..480);
    half.bluray = film(0..200);
    let mut broken = refused("J cut-off file", "readable");
    broken.cut_off = Some(0.4);
    vec![other, half, broken]
}

/// Times that no frame rate gives, streams that do not start at nothing, GOPs that lean on the one before (as all of these DVDs'
/// do), frames that are not there.
fn jitter() -> Vec<Case> {
    let mut late = plain("K program stream from 7 s on");
    late.dvd.container = Container::ProgramStream;
    let mut open = plain("K open GOPs, m2ts from 600 s on");
    open.bluray_in = Container::TransportStream;
    let lost = |name, packet, frame, broken| {
        let mut case = plain(name);
        case.dvd.lost = Some(LostPacket {
            packet,
            frame,
            broken,
        });
        case
    };
    // In coding order, after the first frame, a P-frame comes before the two B-frames that it follows on the screen.
    vec![
        late,
        open,
        lost("K a B-frame missing", 101, 100, 100..100),
        lost("K a P-frame missing", 100, 102, 100..107),
    ]
}
