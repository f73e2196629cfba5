-- When something of a job was leased last: one that stands low and got nothing for long goes first once.
ALTER TABLE turn ADD COLUMN served_ms BIGINT NOT NULL DEFAULT 0;
