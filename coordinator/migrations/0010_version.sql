-- The protocol version that a coordinator must speak at least to lead a job on. Jobs from before this may have anything in them.
ALTER TABLE job ADD COLUMN version BIGINT NOT NULL DEFAULT 2;
