-- How many leases of each job there were: its first ones are served sooner.
ALTER TABLE turn ADD COLUMN leases BIGINT NOT NULL DEFAULT 0;
UPDATE turn SET leases = (SELECT COUNT(*) FROM task WHERE task.job_id = turn.job_id AND task.attempt > 0);
