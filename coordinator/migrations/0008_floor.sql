-- The last migration that a coordinator must know to work on this database. A later one that older coordinators can live with
-- leaves it, so that they may be started again in the middle of an upgrade, or after one that was taken back.
CREATE TABLE floor (version BIGINT NOT NULL);
INSERT INTO floor (version) VALUES (8);
-- When a copy was tried last: those that failed longest ago are tried first.
ALTER TABLE object_copy ADD COLUMN tried_ms BIGINT NOT NULL DEFAULT 0;
