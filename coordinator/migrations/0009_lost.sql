-- Whether the loss of a lease was counted against this life of its worker: 1, and 2 once that was taken back or forgiven.
ALTER TABLE session ADD COLUMN lost BIGINT NOT NULL DEFAULT 0;
-- The newest life of a worker is found at once, however many there were.
DROP INDEX session_worker;
CREATE INDEX session_worker ON session (worker_id, registered_ms, id);
