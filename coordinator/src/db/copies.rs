//! Copies that are still to be made: names for people, given after the commit and tried again until they are recorded.

use remaster_domain::JobId;
use remaster_store::Key;

use super::Tx;
use super::sql::{Connection, query};
use super::tasks::{known, led_here};
use crate::CoordinatorError;

/// Where the bytes of a named object come from.
#[derive(Debug, Clone)]
pub(crate) enum CopySource {
    /// From an object that is there.
    Object(Key),
    /// From the database.
    Body(String),
}

/// A copy to be made.
#[derive(Debug, Clone)]
pub(crate) struct PendingCopy {
    /// Row.
    pub(crate) id: String,
    /// What its bytes are.
    pub(crate) source: CopySource,
    /// Name it shall have.
    pub(crate) target: Key,
}

/// Asks for a copy.
pub(crate) async fn request(
    tx: &mut Tx,
    job: &JobId,
    source: &Key,
    target: &Key,
) -> Result<(), CoordinatorError> {
    query(
        "INSERT INTO object_copy (id, job_id, source_key, target_key, created_ms, error) VALUES ($1, $2, $3, $4, $5, '')",
    )
    .bind(Tx::new_id().to_string())
    .bind(job.as_str())
    .bind(source.as_str())
    .bind(target.as_str())
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    tx.effects.copies = true;
    Ok(())
}

/// Asks for an object of these bytes.
pub(crate) async fn request_writing(
    tx: &mut Tx,
    job: &JobId,
    target: &Key,
    body: &str,
) -> Result<(), CoordinatorError> {
    query(
        "INSERT INTO object_copy (id, job_id, source_key, target_key, created_ms, error, body)
         VALUES ($1, $2, '', $3, $4, '', $5)",
    )
    .bind(Tx::new_id().to_string())
    .bind(job.as_str())
    .bind(target.as_str())
    .bind(tx.now_ms)
    .bind(body)
    .execute(&mut tx.connection)
    .await?;
    tx.effects.copies = true;
    Ok(())
}

/// Copies that are not recorded yet, oldest first, and those last that failed before: they must not keep others waiting.
pub(crate) async fn pending(
    readers: &mut Connection,
    version: u32,
    limit: u32,
) -> Result<Vec<PendingCopy>, CoordinatorError> {
    let rows = query(concat!(
        "SELECT id, source_key, target_key, body FROM object_copy WHERE done_ms IS NULL
             AND (job_id IS NULL OR ",
        led_here!("object_copy", "$2"),
        ") ORDER BY CASE WHEN error = '' THEN 0 ELSE 1 END, tried_ms, id LIMIT $1",
    ))
    .bind(i64::from(limit))
    .bind(i64::from(version))
    .rows(readers)
    .await?;
    let copies = rows.iter().map(|row| {
        Ok(PendingCopy {
            id: row.get("id")?,
            source: match row.get::<Option<String>>("body")? {
                Some(body) => CopySource::Body(body),
                None => CopySource::Object(known("source_key", &row.get::<String>("source_key")?)?),
            },
            target: known("target_key", &row.get::<String>("target_key")?)?,
        })
    });
    copies.collect()
}

/// Records that a copy was made; its job may end by that.
pub(crate) async fn record_copied(tx: &mut Tx, copy: &str) -> Result<(), CoordinatorError> {
    let job: Option<String> = query(
        "UPDATE object_copy SET done_ms = $1, error = '' WHERE id = $2 AND done_ms IS NULL RETURNING job_id",
    )
    .bind(tx.now_ms)
    .bind(copy)
    .first(&mut tx.connection)
    .await?;
    if let Some(job) = job {
        tx.moved.insert(known("job_id", &job)?);
    }
    Ok(())
}

/// Keeps why a copy did not work, for people.
pub(crate) async fn note_failure(tx: &mut Tx, copy: &str, error: &str) -> Result<(), CoordinatorError> {
    query("UPDATE object_copy SET error = $1, tried_ms = $2 WHERE id = $3")
        .bind(error)
        .bind(tx.now_ms)
        .bind(copy)
        .execute(&mut tx.connection)
        .await?;
    Ok(())
}
