//! `gc`: removes from the store what nothing names any more, once somebody has agreed, or shows it. The coordinator decides and
//! removes.

use std::io::{IsTerminal as _, Write as _};

use remaster_proto::pb;
use remaster_service::CliError;
use serde::Serialize;

use crate::args::GcArgs;
use crate::client::Coordinator;
use crate::output::{OutputFormat, show, table};

/// Milliseconds of an hour.
const HOUR_MS: i64 = 60 * 60 * 1_000;

/// What was removed, as scripts see it.
#[derive(Debug, Default, Serialize)]
struct Collected {
    dry_run: bool,
    bytes: u64,
    objects: Vec<ObjectView>,
    /// Whether a dry run stopped before it had seen everything.
    more: bool,
}

#[derive(Debug, Serialize)]
struct ObjectView {
    key: String,
    bytes: u64,
    reason: String,
}

/// `remaster gc`.
pub(crate) async fn run(args: &GcArgs, format: OutputFormat) -> anyhow::Result<()> {
    let must_ask = !args.dry_run && !args.yes;
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if must_ask && !can_ask {
        return Err(
            CliError::usage("nobody is at a terminal to be asked: give --dry-run or --yes")
                .with_hint("--dry-run shows what would be removed, --yes removes it")
                .into(),
        );
    }
    let coordinator = Coordinator::open(&args.connect)?;
    let grace_ms = i64::from(args.grace_hours) * HOUR_MS;
    if must_ask {
        let found = collect(&coordinator, grace_ms, true).await?;
        eprint!("{}", text(&found));
        if found.objects.is_empty() || !is_agreed()? {
            return Ok(());
        }
    }
    let collected = collect(&coordinator, grace_ms, args.dry_run).await?;
    show(format, &collected, text)
}

async fn collect(coordinator: &Coordinator, grace_ms: i64, dry_run: bool) -> anyhow::Result<Collected> {
    let request = pb::CollectGarbageRequest { dry_run, grace_ms };
    let mut collected = Collected {
        dry_run,
        ..Collected::default()
    };
    // A call removes a bounded number; a dry run would see the same ones again.
    loop {
        let reply = coordinator.catalog.clone().collect_garbage(request).await;
        let reply = reply.map_err(|status| coordinator.failed(&status))?.into_inner();
        collected.more = reply.more;
        let removed_none = reply.objects.is_empty();
        collected
            .objects
            .extend(reply.objects.into_iter().map(|object| ObjectView {
                key: object.key,
                bytes: object.bytes,
                reason: object.reason,
            }));
        if !reply.more || dry_run || removed_none {
            break;
        }
    }
    collected.bytes = collected.objects.iter().map(|object| object.bytes).sum();
    Ok(collected)
}

fn is_agreed() -> std::io::Result<bool> {
    eprint!("Remove them? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn text(collected: &Collected) -> String {
    let row = |object: &ObjectView| {
        vec![
            object.key.clone(),
            object.bytes.to_string(),
            object.reason.clone(),
        ]
    };
    let rows: Vec<_> = collected.objects.iter().map(row).collect();
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        table(&["OBJECT", "BYTES", "WHY"], &rows)
    };
    let (count, bytes) = (collected.objects.len(), collected.bytes);
    let done = if collected.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    let more = if collected.more { ", and more" } else { "" };
    text.push_str(&format!("{count} objects, {bytes} bytes {done}{more}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_that_nothing_was_removed() {
        let mut collected = Collected {
            dry_run: true,
            more: true,
            ..Collected::default()
        };
        assert_eq!(
            text(&collected),
            "0 objects, 0 bytes would be removed, and more\n"
        );
        (collected.dry_run, collected.more) = (false, false);
        assert_eq!(text(&collected), "0 objects, 0 bytes removed\n");
    }
}
