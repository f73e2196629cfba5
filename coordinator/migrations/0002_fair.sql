-- How far a job was served already, in leases over its share: the job that is behind goes first.
ALTER TABLE job ADD COLUMN pass BIGINT NOT NULL DEFAULT 0;
-- Failures in a row of a session, and until when it gets nothing because of them.
ALTER TABLE session ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN rests_until_ms BIGINT NOT NULL DEFAULT 0;
-- When the attempt last got further.
ALTER TABLE task ADD COLUMN moved_ms BIGINT NOT NULL DEFAULT 0;
-- What is to be written instead of copied.
ALTER TABLE object_copy ADD COLUMN body TEXT;

-- Checkpoints that a run recorded, in the order of their numbers.
CREATE TABLE checkpoint (
    run         TEXT NOT NULL,
    number      BIGINT NOT NULL,
    sha256      TEXT NOT NULL,
    step        BIGINT NOT NULL,
    recorded_ms BIGINT NOT NULL,
    PRIMARY KEY (run, number),
    UNIQUE (run, sha256)
);
-- Numbers of the manifests of a run.
CREATE TABLE run_manifest (
    run        TEXT NOT NULL,
    number     BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (run, number)
);
-- What each job runs.
CREATE INDEX task_running ON task (job_id) WHERE state = 'leased';
-- What runs now has just moved, as far as anybody knows.
UPDATE task SET moved_ms = expires_ms WHERE state = 'leased';
