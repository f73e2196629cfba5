//! Two models, a size, a colour table and a precision in one command, each of them seen in the output.

use super::{path, text, tool, worker, write_model};

#[test]
fn models_run_one_after_the_other_into_a_size_and_a_colour() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    let (film, model, cube, out) = (
        file("film.mkv"),
        file("m.safetensors"),
        file("red.cube"),
        file("out.mkv"),
    );
    let grey = [
        "-f",
        "lavfi",
        "-i",
        "color=gray:s=96x80:r=25:d=0.4",
        "-c:v",
        "ffv1",
    ];
    tool("ffmpeg", &[&["-v", "error"], &grey[..], &[path(&film)]].concat());
    write_model(&model);
    // Whatever comes in, dark red goes out.
    std::fs::write(&cube, "LUT_1D_SIZE 2\n0.5 0 0\n0.5 0 0\n").unwrap();
    let files = [
        "upscale",
        path(&film),
        path(&out),
        "--model",
        path(&model),
        "--model",
        path(&model),
    ];
    let more = [
        "--size",
        "800x280",
        "--cube",
        path(&cube),
        "--precision",
        "bf16",
        "--encoder",
        "ffv1",
    ];
    let done = worker(&[&files[..], &more].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let size = [
        "-v",
        "error",
        "-show_entries",
        "stream=width,height",
        "-of",
        "csv=p=0",
    ];
    assert_eq!(
        tool("ffprobe", &[&size[..], &[path(&out)]].concat()).trim(),
        "336,280"
    );
    let colour = [
        "-v",
        "error",
        "-i",
        path(&out),
        "-vf",
        "signalstats,metadata=print:file=-",
    ];
    let stats = tool(
        "ffmpeg",
        &[&colour[..], &["-frames:v", "1", "-f", "null", "-"]].concat(),
    );
    let mean = |plane: &str| {
        let line = stats.split(&format!("signalstats.{plane}AVG=")).nth(1).unwrap();
        line.lines().next().unwrap().parse::<f64>().unwrap()
    };
    // 10 bits: 64 + 876 * 0.2126 / 2 and 512 + 896 * 0.7874 / 2 / 1.5748.
    assert!(
        (mean("Y") - 157.1).abs() < 1.0 && (mean("V") - 736.0).abs() < 1.0,
        "{stats}"
    );

    let refused = worker(&[&files[..], &["--model", path(&model), "--model", path(&model)]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("16 times as large"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn weights_of_nnedi_change_what_is_deinterlaced_and_what_are_none_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    let (film, model, weights) = (
        file("film.mkv"),
        file("m.safetensors"),
        file("nnedi3_weights.bin"),
    );
    let moving = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=96x80:r=25:d=0.4",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "ffv1",
    ];
    tool(
        "ffmpeg",
        &[&["-v", "error"], &moving[..], &[path(&film)]].concat(),
    );
    write_model(&model);
    std::fs::write(&weights, "no weights").unwrap();
    let (plain, by_nnedi) = (file("plain.mkv"), file("nnedi.mkv"));
    let run = |out, more: &[&str]| {
        let upscale = ["upscale", path(&film), path(out), "--model", path(&model)];
        let settings = ["--fields", "deinterlace", "--encoder", "ffv1"];
        worker(&[&upscale[..], &settings, more].concat())
    };
    let given = ["--nnedi-weights", path(&weights)];
    let refused = run(&by_nnedi, &given);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("it has 10 bytes"),
        "{}",
        text(&refused.stderr)
    );
    std::fs::write(&weights, vec![0; 13_574_928]).unwrap();
    for (out, more) in [(&plain, &[][..]), (&by_nnedi, &given)] {
        let done = run(out, more);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    let pictures = |out| tool("ffmpeg", &["-v", "error", "-i", path(out), "-f", "framemd5", "-"]);
    let (plain, by_nnedi) = (pictures(&plain), pictures(&by_nnedi));
    assert!(plain.lines().count() == by_nnedi.lines().count() && plain != by_nnedi);
}
