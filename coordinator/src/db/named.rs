//! What rows name of the store: committed objects, models, and sources and models that jobs ask for.
//!
//! Promises: memory is bounded by a few specs at a time, whatever the number of jobs. Left to others: what is garbage.

use std::collections::BTreeSet;

use remaster_domain::ContentHash;
use serde_json::json;

use super::Tx;
use super::sql::{Connection, Row, query, query_over};
use crate::CoordinatorError;

/// Specs that are looked through at once; one may have a megabyte.
const SPECS_AT_ONCE: i64 = 8;

/// Keys in a folder of the store that any row names.
pub(crate) async fn object_keys(
    readers: &mut Connection,
    folder: &str,
) -> Result<Vec<String>, CoordinatorError> {
    Ok(query("SELECT DISTINCT key FROM object WHERE key LIKE $1")
        .bind(format!("{folder}/%"))
        .column(readers)
        .await?)
}

/// Those of some keys that rows name now.
pub(crate) async fn named_of(tx: &mut Tx, keys: &[&str]) -> Result<Vec<String>, CoordinatorError> {
    let rows = keys.iter().map(|key| json!({"key": key})).collect();
    Ok(query_over!(
        rows,
        (key TEXT),
        ["SELECT DISTINCT key FROM object WHERE key IN (SELECT r.key FROM "],
        [")"]
    )
    .column(&mut tx.connection)
    .await?)
}

/// Hashes that the models table has, or that the specs of jobs hold which came since then: of sources, weights, cubes.
pub(crate) async fn asked_for(
    readers: &mut Connection,
    since_ms: i64,
) -> Result<BTreeSet<String>, CoordinatorError> {
    let mut found: BTreeSet<String> = query("SELECT id FROM model")
        .column(readers)
        .await?
        .into_iter()
        .collect();
    let mut after = String::new();
    loop {
        let rows: Vec<Row> =
            query("SELECT id, spec FROM job WHERE created_ms >= $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(since_ms)
                .bind(after.as_str())
                .bind(SPECS_AT_ONCE)
                .rows(readers)
                .await?;
        let Some(last) = rows.last() else {
            return Ok(found);
        };
        after = last.get("id")?;
        for row in &rows {
            found.extend(hashes_in(&row.get::<String>("spec")?).map(str::to_owned));
        }
    }
}

/// Folders of checkpoints that are neither among the last of any run nor younger than that, and that nobody starts from.
pub(crate) async fn outdated_checkpoints(
    readers: &mut Connection,
    kept: i64,
    old_ms: i64,
) -> Result<BTreeSet<String>, CoordinatorError> {
    let outdated: Vec<String> = query(
        "SELECT sha256 FROM checkpoint c GROUP BY sha256 HAVING MAX(recorded_ms) <= $1
             AND NOT EXISTS (SELECT 1 FROM checkpoint l WHERE l.sha256 = c.sha256
                 AND l.number > (SELECT MAX(m.number) FROM checkpoint m WHERE m.run = l.run) - $2)
             AND NOT EXISTS (SELECT 1 FROM task t WHERE t.checkpoint_sha256 = c.sha256
                 AND t.state IN ('ready', 'leased', 'dead'))
             AND NOT EXISTS (SELECT 1 FROM task t WHERE t.kind = 'publish'
                 AND t.state IN ('ready', 'leased', 'dead') AND t.spec LIKE '%' || c.sha256 || '%')",
    )
    .bind(old_ms)
    .bind(kept)
    .column(readers)
    .await?;
    Ok(outdated
        .into_iter()
        .map(|sha256| format!("checkpoints/{sha256}"))
        .collect())
}

/// When this database first heard of anybody; `None` before that. What lies in the store from before is not of its attempts.
pub(crate) async fn first_ms(readers: &mut Connection) -> Result<Option<i64>, CoordinatorError> {
    let first = query(
        "SELECT MIN(created_ms) FROM (SELECT MIN(created_ms) AS created_ms FROM job
             UNION ALL SELECT MIN(created_ms) AS created_ms FROM worker) AS began",
    );
    Ok(first.one(readers).await?)
}

/// Forgets objects that are to be removed.
pub(crate) async fn forget_objects(tx: &mut Tx, keys: &[&str]) -> Result<(), CoordinatorError> {
    let rows = keys.iter().map(|key| json!({"key": key})).collect();
    query_over!(
        rows,
        (key TEXT),
        ["DELETE FROM object WHERE key IN (SELECT r.key FROM "],
        [")"]
    )
    .execute(&mut tx.connection)
    .await?;
    Ok(())
}

/// Every hash in a text.
fn hashes_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_hexdigit())
        .filter(|word| word.parse::<ContentHash>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_found_wherever_they_stand() {
        let (one, two) = (
            ContentHash::of(b"1").to_string(),
            ContentHash::of(b"2").to_string(),
        );
        let text =
            format!("{{\"sd\":\"{one}\",\"n\":[64,\"{two}\"],\"short\":\"abcd\",\"long\":\"{one}0\"}}");
        assert_eq!(hashes_in(&text).collect::<Vec<_>>(), [one, two]);
    }
}
