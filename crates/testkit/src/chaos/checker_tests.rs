//! Doctored evidence: the checker says of each thing that can go wrong that it went wrong, and of a good run nothing.

use super::*;

const SEASON: &str = "season-0";

fn good() -> Evidence {
    let bytes = ContentHash::of(b"episode");
    let output = format!("outputs/{SEASON}/e1.mkv");
    let segment = format!("segments/{bytes}.mkv");
    let task = |id: &str, name: &str| TaskRow {
        id: id.to_owned(),
        season: SEASON.to_owned(),
        name: name.to_owned(),
        state: "committed".to_owned(),
        token: 2,
        message: String::new(),
        result: format!("result of {name}"),
    };
    let attempt = |task: &str, token, outcome: &str| AttemptRow {
        task: task.to_owned(),
        token,
        worker: "light-0".to_owned(),
        leased_ms: 1,
        ended_ms: 2,
        outcome: outcome.to_owned(),
        message: String::new(),
    };
    let calm = Calm {
        state: "succeeded".to_owned(),
        results: [("a", "result of a"), ("b", "result of b")]
            .map(|(name, result)| (name.to_owned(), result.to_owned()))
            .into(),
        dead: BTreeSet::new(),
        named: [(output.clone(), bytes.clone())].into(),
    };
    Evidence {
        calm: [(SEASON.to_owned(), calm)].into(),
        jobs: vec![(SEASON.to_owned(), "succeeded".to_owned())],
        tasks: vec![task("1", "a"), task("2", "b")],
        attempts: vec![
            attempt("1", 1, "lost"),
            attempt("1", 2, "committed"),
            attempt("2", 1, "failed"),
            attempt("2", 2, "committed"),
        ],
        objects: vec![segment.clone()],
        names: vec![(SEASON.to_owned(), output.clone())],
        stored: [(segment, bytes.clone()), (output, bytes)].into(),
        facts: vec![
            saw("1", 2, Saw::Acknowledged),
            saw("2", 2, Saw::Acknowledged),
            saw("1", 1, Saw::Fenced),
        ],
        resent: Resent::default(),
        led_before: LedBefore::default(),
    }
}

fn saw(task: &str, token: i64, saw: Saw) -> Fact {
    Fact {
        worker: "light-0".to_owned(),
        version: 2,
        saw,
        task: task.to_owned(),
        token,
        at_ms: 2,
    }
}

/// Lost, duplicated and unexpected after a change to good evidence.
fn counts(doctor: impl FnOnce(&mut Evidence)) -> (usize, usize, usize) {
    let mut evidence = good();
    doctor(&mut evidence);
    let found = check(&evidence);
    (found.lost.len(), found.duplicated.len(), found.unexpected.len())
}

#[test]
fn a_good_run_is_clean_and_counted() {
    let found = check(&good());
    assert!(found.is_clean(), "{found:?}");
    let seen = (
        found.acknowledged,
        found.committed,
        found.recovered,
        found.fenced,
        found.orphans,
    );
    assert_eq!(seen, (2, 2, 2, 1, 0));
}

#[test]
fn what_was_acknowledged_and_does_not_count_is_lost() {
    assert_eq!(counts(|e| e.tasks[0].state = "ready".to_owned()), (1, 0, 1));
    assert_eq!(
        counts(|e| drop(e.tasks.remove(0))),
        (2, 0, 0),
        "acknowledged, and expected"
    );
    assert_eq!(counts(|e| e.jobs.clear()), (1, 0, 0));
    let lost_object = |e: &mut Evidence| e.stored.retain(|key, _| key.starts_with("outputs/"));
    assert_eq!(counts(lost_object), (1, 0, 0));
    let lost_output = |e: &mut Evidence| e.stored.retain(|key, _| key.starts_with("segments/"));
    assert_eq!(counts(lost_output), (1, 0, 0));
}

#[test]
fn two_commits_of_one_task_are_duplicates() {
    assert_eq!(
        counts(|e| e.facts.push(saw("1", 1, Saw::Acknowledged))),
        (0, 1, 0)
    );
    assert_eq!(
        counts(|e| e.attempts[0].outcome = "committed".to_owned()),
        (0, 1, 0)
    );
    assert_eq!(
        counts(|e| e.facts[0].token = 1),
        (0, 1, 0),
        "not the lease that counts"
    );
    assert_eq!(
        counts(|e| e.tasks.push(TaskRow {
            id: "3".to_owned(),
            ..e.tasks[0].clone()
        })),
        (0, 1, 0)
    );
}

#[test]
fn what_differs_from_the_run_without_faults_is_unexpected() {
    assert_eq!(counts(|e| e.tasks[0].result = "another".to_owned()), (0, 0, 1));
    assert_eq!(
        counts(|e| e.tasks[0].season = "other".to_owned()).2,
        1,
        "nobody handed it in"
    );
    let other_bytes = |e: &mut Evidence| {
        e.stored
            .values_mut()
            .for_each(|hash| *hash = ContentHash::of(b"other"))
    };
    assert_eq!(counts(other_bytes), (0, 0, 2), "the segment and the output");
    let one_more = |e: &mut Evidence| {
        let bytes = ContentHash::of(b"episode");
        e.stored.insert("outputs/season-0/e9.mkv".to_owned(), bytes);
    };
    assert_eq!(counts(one_more), (0, 0, 1));
}

#[test]
fn an_object_that_no_row_names_is_an_orphan_wherever_it_lies() {
    let bytes = ContentHash::of(b"left over");
    for key in [
        format!("segments/{bytes}.mkv"),
        format!("models/{bytes}/card.json"),
        format!("sources/{bytes}"),
        "runs/run-1/manifest-1.json".to_owned(),
    ] {
        let mut evidence = good();
        evidence.stored.insert(key.clone(), bytes.clone());
        let found = check(&evidence);
        assert_eq!((found.orphans, found.unexpected.len()), (1, 1), "{key}");
    }
    let probe = |e: &mut Evidence| {
        drop(
            e.stored
                .insert("probe/written-at-start".to_owned(), bytes.clone()),
        )
    };
    assert_eq!(counts(probe), (0, 0, 0));
}

#[test]
fn a_job_must_end_as_it_does_without_faults() {
    assert_eq!(counts(|e| e.jobs[0].1 = "failed".to_owned()), (0, 0, 1));
    let twice = |e: &mut Evidence| e.jobs.push((SEASON.to_owned(), "succeeded".to_owned()));
    assert_eq!(counts(twice), (1, 0, 0));
}

#[test]
fn only_a_stale_lease_is_a_good_reason_to_refuse() {
    assert_eq!(counts(|e| e.facts.push(saw("2", 1, Saw::Fenced))), (0, 0, 0));
    let mut evidence = good();
    evidence.facts.push(saw("2", 1, Saw::Refused));
    let found = check(&evidence);
    assert_eq!((found.fenced, found.unexpected.len()), (1, 1));
}

#[test]
fn a_worker_must_not_be_given_what_its_version_cannot_read() {
    assert_eq!(counts(|e| e.facts.push(saw("2", 1, Saw::Foreign))), (0, 0, 1));
}
