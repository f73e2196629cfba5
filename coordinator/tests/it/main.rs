//! The coordinator as its clients see it: real client stubs over an in-memory pipe, a real database and a real store on disk.
//! Time is a number that the tests move; nothing sleeps for a lease to run out. One suite over both databases.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#![allow(clippy::duplicate_mod, reason = "the same tests run over both databases")]

mod cluster;
mod fake;
mod one_file;
mod one_server;

mod postgres;
mod sqlite;
