-- The state of the flow line. Subset common to SQLite and PostgreSQL: TEXT ids, BIGINT ms, JSON as TEXT, SMALLINT booleans.
-- Large columns stand last, so that scans of the small ones stay on the row's first page.

CREATE TABLE job (
    id         TEXT PRIMARY KEY,
    season     TEXT NOT NULL,
    stage      TEXT NOT NULL,
    state      TEXT NOT NULL,
    priority   BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    ended_ms   BIGINT,
    model      TEXT,                -- pinned for the job's upscale part
    spec       TEXT NOT NULL
);
-- Unique, so that the lease query can walk jobs in order and the tasks of each in order without sorting.
CREATE UNIQUE INDEX job_queue ON job (state, priority DESC, created_ms, id);
CREATE INDEX job_created ON job (created_ms);

CREATE TABLE task (
    id                TEXT PRIMARY KEY,  -- UUIDv7: ids sort by creation
    job_id            TEXT NOT NULL REFERENCES job (id),
    name              TEXT NOT NULL,
    kind              TEXT NOT NULL,
    gate              TEXT NOT NULL,     -- what waits for this task together with others of the same gate
    work_key          TEXT NOT NULL,
    state             TEXT NOT NULL,
    token             BIGINT NOT NULL,
    attempt           BIGINT NOT NULL,
    errors            BIGINT NOT NULL,
    losses            BIGINT NOT NULL,
    not_before_ms     BIGINT NOT NULL,
    expires_ms        BIGINT NOT NULL,
    session_id        TEXT,
    checkpoint_sha256 TEXT,
    checkpoint_step   BIGINT,
    done              BIGINT NOT NULL,
    total             BIGINT NOT NULL,
    started_ms        BIGINT,
    ended_ms          BIGINT,
    note              TEXT NOT NULL,
    message           TEXT NOT NULL,
    spec              TEXT NOT NULL,
    result            TEXT,
    UNIQUE (job_id, name)
);
-- Leasing reads ready rows only, in creation order.
CREATE INDEX task_ready ON task (job_id, id, kind, not_before_ms) WHERE state = 'ready';
-- The reaper reads leased rows only, soonest deadline first.
CREATE INDEX task_leased ON task (expires_ms) WHERE state = 'leased';
-- Whether a job or one of its gates has anything left.
CREATE INDEX task_gate ON task (job_id, gate, state);
CREATE INDEX task_open ON task (job_id, state) WHERE state <> 'committed';
-- Covers the job summary.
CREATE INDEX task_summary ON task (job_id, kind, state, started_ms, ended_ms);
-- Same work, same answer.
CREATE INDEX task_work ON task (work_key) WHERE state = 'committed';

CREATE TABLE attempt (
    task_id    TEXT NOT NULL REFERENCES task (id),
    token      BIGINT NOT NULL,
    session_id TEXT NOT NULL,
    leased_ms  BIGINT NOT NULL,
    ended_ms   BIGINT,
    outcome    TEXT,                 -- committed, failed, bad-input, lost, released, cancelled
    message    TEXT NOT NULL,
    PRIMARY KEY (task_id, token)
);

CREATE TABLE worker (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE session (
    id            TEXT PRIMARY KEY,
    worker_id     TEXT NOT NULL REFERENCES worker (id),
    registered_ms BIGINT NOT NULL,
    seen_ms       BIGINT NOT NULL,
    draining      SMALLINT NOT NULL,
    capabilities  TEXT NOT NULL
);
CREATE INDEX session_worker ON session (worker_id);
CREATE INDEX session_seen ON session (seen_ms);

-- Append only: what happened, for people.
CREATE TABLE event (
    id      TEXT PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    job_id  TEXT,
    task_id TEXT,
    what    TEXT NOT NULL,
    detail  TEXT NOT NULL
);
CREATE INDEX event_job ON event (job_id, id);

-- Objects that a record or a commit made count. What no row names is garbage.
CREATE TABLE object (
    key         TEXT NOT NULL,
    task_id     TEXT NOT NULL REFERENCES task (id),
    bytes       BIGINT NOT NULL,
    recorded_ms BIGINT NOT NULL,
    PRIMARY KEY (key, task_id)
);

-- Names for people, made by server-side copy after the commit and retried until recorded.
CREATE TABLE object_copy (
    id         TEXT PRIMARY KEY,
    job_id     TEXT NOT NULL REFERENCES job (id),
    source_key TEXT NOT NULL,
    target_key TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    done_ms    BIGINT,
    error      TEXT NOT NULL
);
CREATE INDEX object_copy_pending ON object_copy (job_id) WHERE done_ms IS NULL;

CREATE TABLE dataset (
    season     TEXT NOT NULL,
    number     BIGINT NOT NULL,
    manifest   TEXT NOT NULL,
    pair_count BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (season, number),
    UNIQUE (season, manifest)
);

CREATE TABLE model (
    id         TEXT PRIMARY KEY,
    season     TEXT NOT NULL,
    stage      TEXT NOT NULL,
    run        TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE channel (
    season   TEXT NOT NULL,
    name     TEXT NOT NULL,
    model_id TEXT NOT NULL REFERENCES model (id),
    moved_ms BIGINT NOT NULL,
    PRIMARY KEY (season, name)
);
CREATE INDEX channel_model ON channel (model_id);
