-- What a task needs of a worker beyond taking its kind: `codec.x265,mem_mib>=4000`. Empty for nothing.
ALTER TABLE task ADD COLUMN needs TEXT NOT NULL DEFAULT '';
-- Every need that any task has had: a handful, so that a worker's are matched once and not once a task.
CREATE TABLE need (needs TEXT PRIMARY KEY);
-- What a session is known to hold, as `source.<sha256> model.<id>`, newest last: what it would rather go on with.
ALTER TABLE session ADD COLUMN holds TEXT NOT NULL DEFAULT '';
DROP INDEX task_ready;
CREATE INDEX task_ready ON task (job_id, id, kind, needs, not_before_ms) WHERE state = 'ready';
