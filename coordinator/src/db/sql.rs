//! One way to ask either database: the same text with `$N` binds, text and integers in, text and integers out.
//!
//! Promises: what differs between SQLite and PostgreSQL (integer widths, booleans, NUL in text) ends here, so that the
//! statements of the other files are written once. Left to others: the statements, and when a transaction begins and ends.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Column, Postgres, Row as _, SqlSafeStr, Sqlite, TypeInfo};

use crate::clock::machine_ms;

/// Nothing that is asked takes this long: a server whose machine vanished says nothing for ever.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A connection of either database; it goes back to its pool when dropped.
#[derive(Debug)]
pub(crate) enum Connection {
    /// To the file.
    Sqlite(PoolConnection<Sqlite>),
    /// To the server.
    Postgres(PoolConnection<Postgres>),
}

impl Connection {
    /// Whether several coordinators may be at work on the other side.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// The time on the database's clock, in milliseconds since the epoch. A file has its machine's.
    pub(crate) async fn now_ms(&mut self) -> Result<i64, sqlx::Error> {
        if self.is_shared() {
            return query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
                .one(self)
                .await;
        }
        Ok(machine_ms())
    }

    /// Reads something, whatever it is.
    pub(crate) async fn look(&mut self) -> Result<(), sqlx::Error> {
        query("SELECT version FROM floor").rows(self).await.map(|_| ())
    }

    /// Runs statements without values in one trip; answers the last of the rows that they give.
    pub(crate) async fn script(&mut self, sql: impl SqlSafeStr) -> Result<Option<Row>, sqlx::Error> {
        let script = sqlx::raw_sql(sql);
        Ok(match self {
            Self::Sqlite(to) => script.fetch_all(&mut **to).await?.pop().map(Row::Sqlite),
            Self::Postgres(to) => script.fetch_all(&mut **to).await?.pop().map(Row::Postgres),
        })
    }

    /// Gives a connection up that is in an unknown state, so that nobody gets it from the pool again.
    pub(crate) fn abandon(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }
}

/// A value to bind.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// BIGINT or SMALLINT.
    Integer(Option<i64>),
    /// TEXT.
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        // PostgreSQL keeps no NUL; nothing of ours means anything by one.
        Self::Text(Some(text.replace('\0', "")))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Text(None), Self::from)
    }
}

/// A statement with its values.
#[derive(Debug)]
pub(crate) struct Statement {
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

/// A statement in the common subset.
pub(crate) const fn query(sql: &'static str) -> Statement {
    Statement {
        sqlite: sql,
        postgres: sql,
        values: vec![],
    }
}

/// A statement over many rows at once: `$1` is a JSON array of objects, which stands as table `r` of the columns that are named
/// between the text before and the text after. One text, prepared once, whatever the number of rows. The limits are none;
/// without them SQLite writes a row's object out again for each of its names.
macro_rules! query_over {
    ($rows:expr, ($first:ident $first_type:ident $(, $name:ident $type:ident)*), [$($before:tt)*], [$($after:tt)*]) => {
        $crate::db::sql::over(
            concat!(
                $($before)*,
                "(SELECT value ->> '", stringify!($first), "' AS ", stringify!($first),
                $(", value ->> '", stringify!($name), "' AS ", stringify!($name),)*
                " FROM (SELECT value FROM json_each($1) LIMIT -1) LIMIT -1) AS r",
                $($after)*
            ),
            concat!(
                $($before)*,
                "json_to_recordset(CAST($1 AS json)) AS r (", stringify!($first), " ", stringify!($first_type),
                $(", ", stringify!($name), " ", stringify!($type),)*
                ")",
                $($after)*
            ),
            $rows,
        )
    };
}
pub(crate) use query_over;

/// What [`query_over`] makes.
pub(crate) fn over(sqlite: &'static str, postgres: &'static str, rows: Vec<serde_json::Value>) -> Statement {
    let json = serde_json::Value::Array(rows.into_iter().map(without_nul).collect()).to_string();
    Statement {
        sqlite,
        postgres,
        values: vec![Value::Text(Some(json))],
    }
}

/// PostgreSQL keeps no NUL in text, and JSON would smuggle one in.
fn without_nul(row: serde_json::Value) -> serde_json::Value {
    let serde_json::Value::Object(mut columns) = row else {
        return row;
    };
    for column in columns.values_mut() {
        if let serde_json::Value::String(text) = column
            && text.contains('\0')
        {
            text.retain(|letter| letter != '\0');
        }
    }
    serde_json::Value::Object(columns)
}

/// Statements that became one.
struct Merged {
    text: String,
    values: Vec<Value>,
}

/// Appends a statement whose `$1` is to be `$2` behind one value, and so on.
fn push_renumbered(text: &mut String, sql: &str, values_before: usize) {
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().unwrap_or_default();
        text.push_str(&format!("${}{}", number + values_before, &part[digits..]));
    }
}

macro_rules! bound {
    ($statement:expr, $sql:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $statement.values {
            query = match value {
                Value::Integer(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
            };
        }
        query
    }};
}

/// What a server answers, or that it does not; nobody else gets a connection to one that is silent.
macro_rules! in_time {
    ($server:expr, $asked:expr) => {
        match tokio::time::timeout(ANSWER_MAX, $asked).await {
            Ok(answer) => answer,
            Err(_) => {
                $server.close_on_drop();
                Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
            }
        }
    };
}

impl Statement {
    /// Binds the next `$N`.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; answers how many rows it changed.
    pub(crate) async fn execute(self, connection: &mut Connection) -> Result<u64, sqlx::Error> {
        Ok(match connection {
            Connection::Sqlite(to) => bound!(self, self.sqlite)
                .execute(&mut **to)
                .await?
                .rows_affected(),
            Connection::Postgres(to) => bound!(self, self.postgres)
                .execute(&mut **to)
                .await?
                .rows_affected(),
        })
    }

    /// Runs it and others, of which none depends on another or changes its rows: in one trip where the database is a server.
    /// Answers how many rows this one changed.
    pub(crate) async fn execute_beside(
        self,
        others: Vec<Self>,
        connection: &mut Connection,
    ) -> Result<u64, sqlx::Error> {
        if let Connection::Postgres(to) = connection {
            let all = self.with(others);
            let done = bound!(all, AssertSqlSafe(all.text)).execute(&mut **to).await?;
            return Ok(done.rows_affected());
        }
        let changed = self.execute(connection).await?;
        for other in others {
            other.execute(connection).await?;
        }
        Ok(changed)
    }

    /// One statement for the server: the others as its common table expressions, which it runs though nobody reads them.
    fn with(self, others: Vec<Self>) -> Merged {
        let (mut text, mut values) = (String::new(), self.values);
        for (number, other) in others.into_iter().enumerate() {
            text.push_str(if number == 0 { "WITH" } else { "," });
            text.push_str(&format!(" beside_{number} AS ("));
            push_renumbered(&mut text, other.postgres, values.len());
            text.push_str(") ");
            values.extend(other.values);
        }
        text.push_str(self.postgres);
        Merged { text, values }
    }

    /// All rows.
    pub(crate) async fn rows(self, connection: &mut Connection) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match connection {
            Connection::Sqlite(from) => {
                let rows = bound!(self, self.sqlite).fetch_all(&mut **from).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Connection::Postgres(from) => {
                let asked = bound!(self, self.postgres).fetch_all(&mut **from);
                let rows = in_time!(from, asked)?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row, if there is one.
    pub(crate) async fn row(self, connection: &mut Connection) -> Result<Option<Row>, sqlx::Error> {
        Ok(match connection {
            Connection::Sqlite(from) => bound!(self, self.sqlite)
                .fetch_optional(&mut **from)
                .await?
                .map(Row::Sqlite),
            Connection::Postgres(from) => {
                let asked = bound!(self, self.postgres).fetch_optional(&mut **from);
                in_time!(from, asked)?.map(Row::Postgres)
            }
        })
    }

    /// The first column of the only row.
    pub(crate) async fn one<T: Cell>(self, connection: &mut Connection) -> Result<T, sqlx::Error> {
        self.row(connection).await?.ok_or(sqlx::Error::RowNotFound)?.at(0)
    }

    /// The first column of the first row, if there is one.
    pub(crate) async fn first<T: Cell>(self, connection: &mut Connection) -> Result<Option<T>, sqlx::Error> {
        self.row(connection).await?.map(|row| row.at(0)).transpose()
    }

    /// The first column of all rows.
    pub(crate) async fn column<T: Cell>(self, connection: &mut Connection) -> Result<Vec<T>, sqlx::Error> {
        self.rows(connection).await?.iter().map(|row| row.at(0)).collect()
    }
}

/// A row of either database.
#[derive(Debug)]
pub(crate) enum Row {
    /// From the file.
    Sqlite(SqliteRow),
    /// From the server.
    Postgres(PgRow),
}

impl Row {
    /// The value of a column by its name.
    pub(crate) fn get<T: Cell>(&self, column: &str) -> Result<T, sqlx::Error> {
        let place = match self {
            Self::Sqlite(row) => row.try_column(column)?.ordinal(),
            Self::Postgres(row) => row.try_column(column)?.ordinal(),
        };
        self.at(place)
    }

    /// The value of a column by its place from 0.
    pub(crate) fn at<T: Cell>(&self, place: usize) -> Result<T, sqlx::Error> {
        T::read(self, place)
    }

    fn integer(&self, place: usize) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(place),
            Self::Postgres(row) => match row.try_column(place)?.type_info().name() {
                "BOOL" => Ok(row.try_get::<Option<bool>, _>(place)?.map(i64::from)),
                "INT2" => Ok(row.try_get::<Option<i16>, _>(place)?.map(i64::from)),
                "INT4" => Ok(row.try_get::<Option<i32>, _>(place)?.map(i64::from)),
                _ => row.try_get(place),
            },
        }
    }

    fn text(&self, place: usize) -> Result<Option<String>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(place),
            Self::Postgres(row) => row.try_get(place),
        }
    }
}

/// What a column can be read as.
pub(crate) trait Cell: Sized {
    /// Reads the column at a place.
    fn read(row: &Row, place: usize) -> Result<Self, sqlx::Error>;
}

impl Cell for Option<i64> {
    fn read(row: &Row, place: usize) -> Result<Self, sqlx::Error> {
        row.integer(place)
    }
}

impl Cell for i64 {
    fn read(row: &Row, place: usize) -> Result<Self, sqlx::Error> {
        row.integer(place)?.ok_or_else(|| missing(place))
    }
}

impl Cell for Option<String> {
    fn read(row: &Row, place: usize) -> Result<Self, sqlx::Error> {
        row.text(place)
    }
}

impl Cell for String {
    fn read(row: &Row, place: usize) -> Result<Self, sqlx::Error> {
        row.text(place)?.ok_or_else(|| missing(place))
    }
}

fn missing(place: usize) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {place} is NULL").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_go_together_keep_their_own_values() {
        let first = query("UPDATE a SET x = $1 WHERE y = $2").bind(1).bind(2);
        let second = query("DELETE FROM b WHERE z = $1 OR z = $1 + $2").bind(3).bind(4);
        let third = query("DELETE FROM c");
        let all = first.with(vec![second, third]);
        assert_eq!(
            all.text,
            "WITH beside_0 AS (DELETE FROM b WHERE z = $3 OR z = $3 + $4) , beside_1 AS (DELETE FROM c) \
             UPDATE a SET x = $1 WHERE y = $2"
        );
        let numbers = all.values.iter().map(|value| match value {
            Value::Integer(number) => *number,
            Value::Text(_) => None,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [Some(1), Some(2), Some(3), Some(4)]);
    }
}
