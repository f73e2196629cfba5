-- Every lease and every commit changes each index that holds a task's state: fewer of them, each for several questions.
DROP INDEX task_gate;
DROP INDEX task_open;
DROP INDEX task_summary;
DROP INDEX task_running;
DROP INDEX task_leased;
-- Whether a gate has anything left; covers the job summary.
CREATE INDEX task_state ON task (job_id, gate, state, kind, started_ms, ended_ms);
-- What each job runs, and what of it is past its deadline: as many rows as there are leases.
CREATE INDEX task_leased ON task (job_id, expires_ms) WHERE state = 'leased';
-- What a job died of.
CREATE INDEX task_dead ON task (job_id, id) WHERE state = 'dead';
-- How far each job was served, apart from its spec, which may be long: it moves at every lease. The column of before stays,
-- for a coordinator of the release before that is still running.
CREATE TABLE turn (
    job_id TEXT PRIMARY KEY REFERENCES job (id),
    pass   BIGINT NOT NULL
);
INSERT INTO turn (job_id, pass) SELECT id, pass FROM job;
