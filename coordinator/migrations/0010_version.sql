-- The protocol version that a coordinator must speak at least to lead a job on. Jobs from before this may have anything in them.
-- Not in the row of the job, where SQLite would walk past the spec to reach it.
ALTER TABLE turn ADD COLUMN version BIGINT NOT NULL DEFAULT 2;
