-- What was tried before and may be tried again, the newest offer last: as many rows as there are such tasks.
CREATE INDEX task_returned ON task (not_before_ms) WHERE state = 'ready' AND attempt > 0;
