-- The attempt that goes on while its task is offered to another worker because it takes so long.
ALTER TABLE task ADD COLUMN elder_token BIGINT;
ALTER TABLE task ADD COLUMN elder_session TEXT;
ALTER TABLE task ADD COLUMN elder_expires_ms BIGINT;
-- The reaper reads those that are at work only, soonest deadline first.
CREATE INDEX task_elder ON task (elder_expires_ms) WHERE elder_token IS NOT NULL;
