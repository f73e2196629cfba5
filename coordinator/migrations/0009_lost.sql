-- Whether the loss of a lease was counted against this life of its worker.
ALTER TABLE session ADD COLUMN lost BIGINT NOT NULL DEFAULT 0;
